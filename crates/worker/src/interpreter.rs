//! The interpreters of this host, and the choice of one for a runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Language, Runtime};
use tracing::warn;

use crate::Error;
use crate::found::Interpreter;
use crate::runtime::{self, Discovery};

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
    /// Placeholders for languages that need no interpreter.
    placeholders: BTreeMap<Language, Arc<Interpreter>>,
    fallback: bool,
}

impl Interpreters {
    /// Runs each candidate to determine its version. For languages of which no programs are named, the usual locations are
    /// searched. `fallback` lets a newer version serve a missing one.
    pub fn find(named: &[(Language, &[PathBuf])], fallback: bool) -> Self {
        let mut found = BTreeMap::new();
        for language in Language::ALL {
            let named = named.iter().find(|(of, _)| of == language);
            if let Some(discovery) = runtime::of(*language).discovery() {
                let named = named.map_or(&[][..], |(_, programs)| *programs);
                discover(&mut found, named, discovery);
            }
        }
        Self::of(found, fallback)
    }

    fn of(found: BTreeMap<Runtime, Arc<Interpreter>>, fallback: bool) -> Self {
        let placeholder = |language: &Language| {
            let placeholder = Interpreter {
                runtime: Runtime::new(*language, 0, 0),
                program: PathBuf::new(),
                prefix: "/usr".into(),
            };
            (*language, Arc::new(placeholder))
        };
        let all = Language::ALL.iter();
        let without = all.filter(|language| runtime::of(**language).discovery().is_none());
        Self {
            found,
            placeholders: without.map(placeholder).collect(),
            fallback,
        }
    }

    /// Returns the paths that SCF documents for its runtimes, each with the prefix of the interpreter that serves it
    /// here.
    pub(crate) fn documented_paths(&self) -> Vec<(PathBuf, PathBuf)> {
        let documented = Language::ALL.iter().flat_map(|language| {
            let versions = language.description().documented.iter();
            versions.map(move |(major, minor)| Runtime::new(*language, *major, *minor))
        });
        let served = documented.filter_map(|runtime| {
            let prefix = self.serve(runtime).ok()?.interpreter.prefix.clone();
            Some((runtime.paths().pop()?.into(), prefix))
        });
        served.collect()
    }

    /// Returns the interpreter that the first request most likely needs: the newest of the first language.
    pub fn preferred(&self) -> Option<&Arc<Interpreter>> {
        let first = Runtime::new(*Language::ALL.first()?, 0, 0);
        let mut all = self.found.range(first..=first.last());
        all.next_back().map(|(_, newest)| newest)
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
        if let Some(placeholder) = self.placeholders.get(&wanted.language()) {
            return Ok(Served {
                interpreter: placeholder.clone(),
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
            return nothing_installed();
        }
        let names: Vec<_> = self.found.keys().map(Runtime::to_string).collect();
        names.join(", ")
    }
}

/// Says that no interpreter was found, and what to install.
fn nothing_installed() -> String {
    let all = Language::ALL.iter();
    let rows = all.filter_map(|language| {
        let discovery = runtime::of(*language).discovery()?;
        Some((language.description().name, discovery.host_package()))
    });
    let (names, packages): (Vec<_>, Vec<_>) = rows.unzip();
    format!(
        "neither {}; install {}",
        names.join(" nor "),
        packages.join(" or ")
    )
}

fn discover(
    found: &mut BTreeMap<Runtime, Arc<Interpreter>>,
    named: &[PathBuf],
    discovery: &dyn Discovery,
) {
    let candidates = if named.is_empty() {
        discovery.candidates()
    } else {
        named.to_vec()
    };
    for program in candidates {
        match discovery.examine(&program) {
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
    fn host_without_interpreters_is_told_what_to_install() {
        let nothing = Interpreters::of(BTreeMap::new(), true);
        let wanted = Runtime::new(Language::Python, 3, 7);
        let error = nothing.serve(wanted).map(drop).map_err(|e| e.to_string());
        let expected = "Python3.7 is not installed; this host has neither Python nor Node.js; install python3 or nodejs";
        assert_eq!(error, Err(expected.into()));
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
