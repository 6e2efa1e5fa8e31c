//! The interpreters of this host, and the choice of one for a runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use model::Runtime;
use tracing::warn;

use crate::Error;

/// An interpreter whose version was determined by running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its runtime.
    pub runtime: Runtime,
    /// The program, with links resolved.
    pub program: PathBuf,
    /// Installation prefix, which holds its library.
    pub prefix: PathBuf,
}

impl Interpreter {
    /// Returns the paths under which SCF documents it.
    pub(crate) fn runtime_paths(&self) -> Vec<String> {
        match self.runtime {
            Runtime::Python { major, minor } => vec![
                format!("/var/lang/python{major}"),
                format!("/var/lang/python{major}{minor}"),
            ],
            Runtime::Node { major, .. } => {
                vec!["/var/lang/node".into(), format!("/var/lang/node{major}")]
            }
            Runtime::Custom => Vec::new(),
        }
    }
}

/// The interpreter that serves a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The interpreter that runs the code.
    pub interpreter: Arc<Interpreter>,
    /// Whether it is another version than the requested one.
    pub fallback: bool,
}

impl Served {
    /// Returns a note for users if another version than `asked` serves.
    pub fn note(&self, asked: Runtime) -> Option<String> {
        let runs = self.interpreter.runtime;
        self.fallback
            .then(|| format!("{asked} is not installed on this host; {runs} serves it"))
    }
}

/// The interpreters of this host, by runtime.
#[derive(Clone, Debug)]
pub struct Interpreters {
    found: BTreeMap<Runtime, Arc<Interpreter>>,
    /// Placeholder for custom runtimes.
    none: Arc<Interpreter>,
    fallback: bool,
}

impl Interpreters {
    /// Runs each candidate to determine its version. Without named programs, the usual locations are searched.
    /// `fallback` lets a newer version serve a missing one.
    pub fn find(pythons: &[PathBuf], nodes: &[PathBuf], fallback: bool) -> Self {
        let mut found = BTreeMap::new();
        discover(&mut found, pythons, python_candidates, query_python);
        discover(&mut found, nodes, node_candidates, query_node);
        Self::of(found, fallback)
    }

    fn of(found: BTreeMap<Runtime, Arc<Interpreter>>, fallback: bool) -> Self {
        let none = Interpreter {
            runtime: Runtime::Custom,
            program: PathBuf::new(),
            prefix: "/usr".into(),
        };
        Self {
            found,
            none: Arc::new(none),
            fallback,
        }
    }

    /// Returns the paths that SCF documents for its runtimes, each with the prefix of the interpreter that serves it
    /// here.
    pub(crate) fn documented_paths(&self) -> Vec<(PathBuf, PathBuf)> {
        const PYTHONS: [(u8, u8); 4] = [(3, 6), (3, 7), (3, 9), (3, 10)];
        const NODES: [u8; 5] = [10, 12, 14, 16, 18];
        let pythons = PYTHONS.map(|(major, minor)| Runtime::Python { major, minor });
        let nodes = NODES.map(|major| Runtime::Node { major, minor: 0 });
        let served = pythons.into_iter().chain(nodes).filter_map(|runtime| {
            let prefix = self.serve(runtime).ok()?.interpreter.prefix.clone();
            let link = match runtime {
                Runtime::Python { major, minor } => format!("/var/lang/python{major}{minor}"),
                Runtime::Node { major, .. } => format!("/var/lang/node{major}"),
                Runtime::Custom => return None,
            };
            Some((link.into(), prefix))
        });
        served.collect()
    }

    /// Returns the newest Python.
    pub fn newest_python(&self) -> Option<&Arc<Interpreter>> {
        let pythons = ..=Runtime::Python {
            major: u8::MAX,
            minor: u8::MAX,
        };
        self.found
            .range(pythons)
            .next_back()
            .map(|(_, python)| python)
    }

    /// Returns all interpreters, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Interpreter>> {
        self.found.values()
    }

    /// Returns the interpreter for a runtime: the same version, or with fallback the nearest newer one.
    ///
    /// # Errors
    /// [`Error::NoInterpreter`] lists the installed ones.
    pub fn serve(&self, wanted: Runtime) -> Result<Served, Error> {
        let last = match wanted {
            Runtime::Python { .. } => Runtime::Python {
                major: u8::MAX,
                minor: u8::MAX,
            },
            Runtime::Node { .. } => Runtime::Node {
                major: u8::MAX,
                minor: u8::MAX,
            },
            Runtime::Custom => {
                return Ok(Served {
                    interpreter: self.none.clone(),
                    fallback: false,
                });
            }
        };
        let nearest = self
            .found
            .range(wanted..=last)
            .next()
            .map(|(_, interpreter)| interpreter);
        match nearest {
            Some(found) if same_release(found.runtime, wanted) => Ok(Served {
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
            return "neither Python nor Node.js; install python3 or nodejs".into();
        }
        let names: Vec<_> = self.found.keys().map(Runtime::to_string).collect();
        names.join(", ")
    }
}

/// Returns whether a version can stand for another: minor versions of Node.js are compatible.
fn same_release(found: Runtime, wanted: Runtime) -> bool {
    match (found, wanted) {
        (Runtime::Node { major: found, .. }, Runtime::Node { major: wanted, .. }) => {
            found == wanted
        }
        _ => found == wanted,
    }
}

fn discover(
    found: &mut BTreeMap<Runtime, Arc<Interpreter>>,
    named: &[PathBuf],
    usual: fn() -> Vec<PathBuf>,
    query: fn(&Path) -> Result<Interpreter, String>,
) {
    let candidates = if named.is_empty() {
        usual()
    } else {
        named.to_vec()
    };
    for program in candidates {
        match query(&program) {
            Ok(interpreter) => {
                found
                    .entry(interpreter.runtime)
                    .or_insert_with(|| Arc::new(interpreter));
            }
            // Only programs that the operator named are worth a warning.
            Err(why) if !named.is_empty() => {
                warn!(program = %program.display(), why, "not an interpreter")
            }
            Err(_) => {}
        }
    }
}

/// Lists `python3.N` in the system directories and those of version managers.
fn python_candidates() -> Vec<PathBuf> {
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

/// Lists `node` in the system directories and those of its version manager.
fn node_candidates() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = ["/usr/bin/node", "/usr/local/bin/node"]
        .iter()
        .map(PathBuf::from)
        .collect();
    let home = std::env::var_os("NVM_DIR").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".nvm")));
    let listed = home.and_then(|home| std::fs::read_dir(home.join("versions/node")).ok());
    let mut managed: Vec<_> = listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/node"))
        .collect();
    managed.sort();
    places.extend(managed);
    places
}

fn query_python(program: &Path) -> Result<Interpreter, String> {
    const QUESTION: &str =
        "import sys; print(sys.version_info[0], sys.version_info[1]); print(sys.base_prefix)";
    let (program, text) = query(program, &["-I", "-S", "-c", QUESTION])?;
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default().replace(' ', ".");
    let runtime = Runtime::parse(&format!("Python{version}"))
        .map_err(|_| format!("its version is {version:?}, which is not supported"))?;
    let prefix = lines
        .next()
        .map(PathBuf::from)
        .ok_or("it does not report its prefix")?;
    Ok(Interpreter {
        runtime,
        program,
        prefix,
    })
}

fn query_node(program: &Path) -> Result<Interpreter, String> {
    let (program, text) = query(program, &["--version"])?;
    let version = text.trim().trim_start_matches('v');
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    let runtime = Runtime::parse(&format!("Nodejs{minor}"))
        .map_err(|_| format!("its version is {version:?}, which is not supported"))?;
    let prefix = program.parent().and_then(Path::parent);
    let prefix = prefix.ok_or("it has no installation prefix")?.to_owned();
    Ok(Interpreter {
        runtime,
        program,
        prefix,
    })
}

/// Runs a program, and returns its path with links resolved and its output.
fn query(program: &Path, args: &[&str]) -> Result<(PathBuf, String), String> {
    let program = program.canonicalize().map_err(|e| e.to_string())?;
    let output = Command::new(&program)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((program, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(minors: &[u8], fallback: bool) -> Interpreters {
        let pythons = minors.iter().map(|minor| Runtime::Python {
            major: 3,
            minor: *minor,
        });
        let node = Runtime::Node {
            major: 18,
            minor: 20,
        };
        let one = |runtime: Runtime| {
            let interpreter = Interpreter {
                runtime,
                program: "/p".into(),
                prefix: "/".into(),
            };
            (runtime, Arc::new(interpreter))
        };
        Interpreters::of(pythons.chain([node]).map(one).collect(), fallback)
    }

    #[test]
    fn missing_version_falls_back_to_nearest_newer() {
        let rows = [
            ("Python3.9", Some(("Python3.9", false))),
            ("Python3.7", Some(("Python3.9", true))),
            ("Python3.10", Some(("Python3.11", true))),
            ("Python2.7", Some(("Python3.9", true))),
            ("Python3.12", None),
            ("Nodejs16.13", Some(("Nodejs18.20", true))),
            ("Nodejs18.15", Some(("Nodejs18.20", false))),
            ("Nodejs20.1", None),
            ("CustomRuntime", Some(("CustomRuntime", false))),
        ];
        for (wanted, expected) in rows {
            let runtime = Runtime::parse(wanted).expect("well-formed");
            let served = have(&[9, 11], true).serve(runtime).ok();
            let got = served.map(|s| (s.interpreter.runtime.to_string(), s.fallback));
            let got = got
                .as_ref()
                .map(|(name, fallback)| (name.as_str(), *fallback));
            assert_eq!(got, expected, "{wanted}");
        }
    }

    #[test]
    fn without_fallback_the_error_lists_installed_versions() {
        let wanted = Runtime::Python { major: 3, minor: 7 };
        let error = have(&[9, 11], false)
            .serve(wanted)
            .map(drop)
            .map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err(
                "Python3.7 is not installed; this host has Python3.9, Python3.11, Nodejs18.20"
                    .into()
            )
        );
    }
}
