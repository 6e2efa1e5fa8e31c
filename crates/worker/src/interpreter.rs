//! The interpreters of this host, and the choice of one for a runtime.

mod found;
mod node;
mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Language, Runtime};
use tracing::warn;

use crate::Error;

pub use self::found::Interpreter;

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
        discover(&mut found, pythons, python::candidates, python::examine);
        discover(&mut found, nodes, node::candidates, node::examine);
        Self::of(found, fallback)
    }

    fn of(found: BTreeMap<Runtime, Arc<Interpreter>>, fallback: bool) -> Self {
        let none = Interpreter {
            runtime: Runtime::CUSTOM,
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
        let documented = Language::ALL.into_iter().flat_map(|language| {
            let versions = language.description().documented.iter();
            versions.map(move |(major, minor)| Runtime::new(language, *major, *minor))
        });
        let served = documented.filter_map(|runtime| {
            let prefix = self.serve(runtime).ok()?.interpreter.prefix.clone();
            Some((runtime.paths().pop()?.into(), prefix))
        });
        served.collect()
    }

    /// Returns the newest Python.
    pub fn newest_python(&self) -> Option<&Arc<Interpreter>> {
        let first = Runtime::new(Language::Python, 0, 0);
        let mut pythons = self.found.range(first..=first.last());
        pythons.next_back().map(|(_, python)| python)
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
        if wanted == Runtime::CUSTOM {
            return Ok(Served {
                interpreter: self.none.clone(),
                fallback: false,
            });
        }
        let nearest = self
            .found
            .range(wanted..=wanted.last())
            .next()
            .map(|(_, interpreter)| interpreter);
        match nearest {
            Some(found) if wanted.is_compatible(found.runtime) => Ok(Served {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn have(minors: &[u8], fallback: bool) -> Interpreters {
        let pythons = minors
            .iter()
            .map(|minor| Runtime::new(Language::Python, 3, *minor));
        let node = Runtime::new(Language::Node, 18, 20);
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
        let wanted = Runtime::new(Language::Python, 3, 7);
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
