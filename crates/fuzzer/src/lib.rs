//! A seeded fuzz driver for ordinary tests, without a nightly toolchain.
//!
//! It runs a target on each seed input in `fuzz/seeds/<target>`, and then on a bounded number of mutations of them. A target
//! returns what an input came to; the first input with a new outcome is kept and mutated further, so that rare paths are
//! reached in steps. A run is the same on every machine.
//!
//! `FUZZ_EXECUTIONS` sets the number of mutations, `FUZZ_SEED` another sequence. With `FUZZ_KEEP=1` kept inputs are written
//! beside the seeds. The input of a panic is written to `target/fuzz/<target>`.

mod mutate;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use mutate::mutated;
use seeded::Random;

/// Longest mutated input, bytes.
const INPUT_MAX: usize = 64 << 10;
/// Most inputs that are kept for further mutation.
const POOL_MAX: usize = 2000;

/// Runs a target on its seeds and on `executions` mutations of them.
///
/// # Panics
/// The target panicked, or there are no seeds. The message names the file with the input.
pub fn run<O: Hash>(target: &str, executions: u64, mut run: impl FnMut(&[u8]) -> O) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let seeds = root.join("fuzz/seeds").join(target);
    let mut pool = read_seeds(&seeds);
    assert!(!pool.is_empty(), "{} has no seeds", seeds.display());
    let executions = number("FUZZ_EXECUTIONS").unwrap_or(executions);
    let mut random = Random::new(number("FUZZ_SEED").unwrap_or(1));
    let keeps = number("FUZZ_KEEP") == Some(1);
    let mut outcomes = BTreeSet::new();
    let mut execute = |input: &[u8]| {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(input)));
        match outcome {
            Ok(outcome) => outcomes.insert(hash(&outcome)),
            Err(cause) => {
                let path = root.join("target/fuzz").join(target);
                let path = store(&path, input);
                eprintln!("the input of this panic is in {}", path.display());
                panic::resume_unwind(cause)
            }
        }
    };
    for input in &pool {
        execute(input);
    }
    for _ in 0..executions {
        let input = mutated(&pool, INPUT_MAX, &mut random);
        if execute(&input) && pool.len() < POOL_MAX {
            if keeps {
                store(&seeds, &input);
            }
            pool.push(input);
        }
    }
}

/// Returns the words of a message without quoted parts and numbers, as the outcome of an input that is refused.
pub fn shape(message: &str) -> String {
    let unquoted = message.split('"').step_by(2);
    let plain = unquoted.flat_map(|part| part.split(|c: char| !c.is_ascii_alphabetic()));
    plain
        .filter(|word| word.len() > 1)
        .collect::<Vec<_>>()
        .join(" ")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Reads the seeds, in the order of their names.
fn read_seeds(directory: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

/// Writes an input under the name of its digest, as far as the disk permits.
fn store(directory: &Path, input: &[u8]) -> PathBuf {
    let path = directory.join(format!("{:016x}", hash(&input)));
    if fs::create_dir_all(directory).is_err() || fs::write(&path, input).is_err() {
        eprintln!("the input cannot be written: {input:?}");
    }
    path
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_outcomes_are_reached_in_steps() {
        // A blind search would need some billions of executions for these bytes.
        let mut longest = 0;
        run("self", 300_000, |input| {
            let reached = input
                .iter()
                .zip(b"rain")
                .take_while(|(a, b)| a == b)
                .count();
            longest = longest.max(reached);
            reached
        });
        assert_eq!(longest, 4);
    }

    #[test]
    fn shape_of_a_message_has_no_values() {
        let of = |field: &str| {
            shape(&format!(
                "Handler: \"{field}\" is not allowed; up to 60 bytes are"
            ))
        };
        assert_eq!(of("a b"), "Handler is not allowed up to bytes are");
        assert_eq!(of("a b"), of("c"));
    }

    #[test]
    fn panic_of_a_target_is_reported_with_its_input() {
        let found = panic::catch_unwind(|| {
            run("self", 10, |input| assert!(input.is_empty(), "not empty"));
        });
        let cause = found.expect_err("a panic");
        assert_eq!(cause.downcast_ref::<&str>(), Some(&"not empty"));
    }
}
