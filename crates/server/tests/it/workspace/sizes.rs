//! No file over 600 lines without a reason in its first lines. Functions are measured by clippy (`clippy.toml`).

use std::path::{Path, PathBuf};

use super::ROOT;

/// Lines of a file that needs no reason.
const LINES: usize = 600;
/// The words with which a reason begins.
const REASON: &str = "Long because";

/// Files that are too long today, by the end of their path. The list only shrinks.
const EXCEPTIONS: &[&str] = &[
    "server/tests/it/actions.rs",
    "server/tests/it/builds.rs",
    "server/tests/it/runtime.rs",
    "server/tests/it/signing.rs",
    "server/tests/it/traffic.rs",
    "server/tests/it/urls.rs",
];

#[test]
fn no_long_file_without_a_reason() {
    let mut files = Vec::new();
    sources(Path::new(&format!("{ROOT}/crates")), &mut files);
    assert!(files.len() > 100, "the sources were not found");
    let is_long = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("a source");
        let mut first = text.lines().take(10);
        text.lines().count() > LINES && !first.any(|line| line.contains(REASON))
    };
    let long: Vec<_> = files.into_iter().filter(is_long).collect();
    let excepted = |file: &Path| EXCEPTIONS.iter().any(|end| file.ends_with(end));
    let new: Vec<_> = long.iter().filter(|file| !excepted(file)).collect();
    assert!(
        new.is_empty(),
        "over {LINES} lines; split it by idea, or say in its first lines \"{REASON} …\": {new:?}"
    );
    for end in EXCEPTIONS {
        let still = long.iter().any(|file| file.ends_with(end));
        assert!(still, "{end} is short enough: remove the exception");
    }
}

/// Adds the Rust files below a directory.
pub(super) fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
