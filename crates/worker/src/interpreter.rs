//! The Pythons of this host, and which of them serves a runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use model::Runtime;
use tracing::warn;

use crate::Error;

/// An interpreter that was started once and said what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The runtime that it is.
    pub runtime: Runtime,
    /// The program, without links.
    pub program: PathBuf,
    /// Where its library lies.
    pub prefix: PathBuf,
}

/// Which interpreter serves a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The one that runs the code.
    pub interpreter: Arc<Interpreter>,
    /// Whether it is another version than was asked for.
    pub fallback: bool,
}

impl Served {
    /// What users are told when another version serves than `asked`.
    pub fn note(&self, asked: Runtime) -> Option<String> {
        let runs = self.interpreter.runtime;
        self.fallback
            .then(|| format!("{asked} is not installed on this host; {runs} serves it"))
    }
}

/// The interpreters of this host, by version.
#[derive(Clone, Debug)]
pub struct Interpreters {
    found: BTreeMap<Runtime, Arc<Interpreter>>,
    fallback: bool,
}

impl Interpreters {
    /// Starts each candidate once to learn its version. With no `named` ones it looks where Pythons usually
    /// are. `fallback` lets a newer version serve one that is missing.
    pub fn find(named: &[PathBuf], fallback: bool) -> Self {
        let candidates = if named.is_empty() {
            usual_places()
        } else {
            named.to_vec()
        };
        let mut found = BTreeMap::new();
        for program in candidates {
            match ask(&program) {
                Ok(interpreter) => {
                    found
                        .entry(interpreter.runtime)
                        .or_insert_with(|| Arc::new(interpreter));
                }
                // Only what the operator named is worth a word.
                Err(why) if !named.is_empty() => {
                    warn!(program = %program.display(), why, "not an interpreter")
                }
                Err(_) => {}
            }
        }
        Self { found, fallback }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Interpreter>> {
        self.found.values()
    }

    /// The interpreter for a runtime: itself, or, where that is allowed, the nearest newer one.
    ///
    /// # Errors
    /// [`Error::NoInterpreter`] lists what there is.
    pub fn serve(&self, wanted: Runtime) -> Result<Served, Error> {
        let nearest = self
            .found
            .range(wanted..)
            .next()
            .map(|(_, interpreter)| interpreter);
        match nearest {
            Some(found) if found.runtime == wanted => Ok(Served {
                interpreter: found.clone(),
                fallback: false,
            }),
            Some(newer) if self.fallback => Ok(Served {
                interpreter: newer.clone(),
                fallback: true,
            }),
            _ => Err(Error::NoInterpreter {
                wanted: wanted.to_string(),
                have: self.list(),
            }),
        }
    }

    fn list(&self) -> String {
        if self.found.is_empty() {
            return "no Python at all; install python3".into();
        }
        let names: Vec<_> = self.found.keys().map(Runtime::to_string).collect();
        names.join(", ")
    }
}

/// `python3.N` on the path and in the places where version managers keep them.
fn usual_places() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = ["/usr/bin", "/usr/local/bin"]
        .iter()
        .map(PathBuf::from)
        .collect();
    let homes = [
        std::env::var_os("PYENV_ROOT"),
        std::env::var_os("HOME").map(|home| Path::new(&home).join(".pyenv").into()),
    ];
    for home in homes.into_iter().flatten() {
        let versions = Path::new(&home).join("versions");
        let listed = std::fs::read_dir(versions).into_iter().flatten().flatten();
        let mut bins: Vec<_> = listed.map(|entry| entry.path().join("bin")).collect();
        bins.sort();
        directories.extend(bins);
    }
    let mut places = Vec::new();
    for directory in directories {
        let listed = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        let is_python = |name: &str| {
            name.strip_prefix("python3.")
                .is_some_and(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut names: Vec<_> = listed
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(is_python)
            })
            .collect();
        names.sort();
        places.extend(names);
    }
    places
}

fn ask(program: &Path) -> Result<Interpreter, String> {
    const QUESTION: &str =
        "import sys; print(sys.version_info[0], sys.version_info[1]); print(sys.base_prefix)";
    let program = program.canonicalize().map_err(|e| e.to_string())?;
    let output = Command::new(&program)
        .args(["-I", "-S", "-c", QUESTION])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default().replace(' ', ".");
    let runtime =
        Runtime::parse(&format!("Python{version}")).map_err(|_| format!("it says {version:?}"))?;
    let prefix = lines
        .next()
        .map(PathBuf::from)
        .ok_or("it does not say its prefix")?;
    Ok(Interpreter {
        runtime,
        program,
        prefix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(minors: &[u8], fallback: bool) -> Interpreters {
        let one = |minor: &u8| {
            let runtime = Runtime::Python {
                major: 3,
                minor: *minor,
            };
            let interpreter = Interpreter {
                runtime,
                program: "/p".into(),
                prefix: "/".into(),
            };
            (runtime, Arc::new(interpreter))
        };
        Interpreters {
            found: minors.iter().map(one).collect(),
            fallback,
        }
    }

    #[test]
    fn the_same_version_serves_itself_and_a_missing_one_is_served_by_the_nearest_newer() {
        let rows = [
            ("Python3.9", Some((9, false))),
            ("Python3.7", Some((9, true))),
            ("Python3.10", Some((11, true))),
            ("Python2.7", Some((9, true))),
            ("Python3.12", None),
        ];
        for (wanted, expected) in rows {
            let runtime = Runtime::parse(wanted).expect("well-formed");
            let served = have(&[9, 11], true).serve(runtime).ok();
            let got = served.map(|s| match s.interpreter.runtime {
                Runtime::Python { minor, .. } => (minor, s.fallback),
            });
            assert_eq!(got, expected, "{wanted}");
        }
    }

    #[test]
    fn without_fallback_the_error_lists_what_there_is() {
        let wanted = Runtime::Python { major: 3, minor: 7 };
        let error = have(&[9, 11], false)
            .serve(wanted)
            .map(drop)
            .map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("Python3.7 is not installed; this host has Python3.9, Python3.11".into())
        );
    }
}
