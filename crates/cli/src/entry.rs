//! The entry point of a package: the file that a function's handler, or its runtime, asks for.
//!
//! The server looks for exactly these files in the code and the layers, so a package without one fails at its first call.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use model::Handler;

/// Suffixes of a Python handler's file.
const PYTHON: &[&str] = &[".py", ".pyc", "/__init__.py"];
/// Suffixes of a Node.js handler's file.
const NODE: &[&str] = &[".js", ".cjs", ".mjs", "/index.js"];
/// The runtime of programs.
pub(super) const CUSTOM: &str = "CustomRuntime";
/// Maximum number of handlers in a message.
const SHOWN: usize = 4;

/// The language of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    Node,
}

impl Language {
    /// Returns the language of a file by its name.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        match extension {
            _ if stem.is_empty() => None,
            "py" | "pyc" => Some(Self::Python),
            "js" | "cjs" | "mjs" => Some(Self::Node),
            _ => None,
        }
    }

    fn of_runtime(runtime: &str) -> Option<Self> {
        match runtime {
            _ if runtime.starts_with(Self::Python.prefix()) => Some(Self::Python),
            _ if runtime.starts_with(Self::Node.prefix()) => Some(Self::Node),
            _ => None,
        }
    }

    /// Returns the prefix of the runtimes' names.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Nodejs",
        }
    }
}

/// Returns the handler in a single file; `None` if the file has no language, or a name that no handler can have.
pub(super) fn handler_of_file(source: &Path) -> Option<String> {
    let name = source.file_name()?.to_str()?;
    Language::of_file(name)?;
    let handler = format!("{}.main_handler", source.file_stem()?.to_str()?);
    Handler::parse(&handler).is_ok().then_some(handler)
}

/// The function that a package is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) handler: &'a str,
    pub(super) runtime: &'a str,
    /// Whether it is a web function.
    pub(super) web: bool,
    /// Whether the function exists, so that its runtime and type are fixed.
    pub(super) exists: bool,
}

/// The files of a package.
#[derive(Debug, Default)]
pub(super) struct Contents {
    files: BTreeSet<String>,
    /// Symbolic links, which may lead to a directory with any file.
    links: BTreeSet<String>,
}

impl Contents {
    /// Lists a zip archive; `None` if it is none, which the server says better.
    pub(super) fn of(zip: &[u8]) -> Option<Self> {
        let mut archive = zip::ZipArchive::new(Cursor::new(zip)).ok()?;
        let mut contents = Self::default();
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).ok()?;
            let name = entry.name().ok()?;
            let name = name.trim_start_matches("./").to_owned();
            if entry.is_symlink() {
                contents.links.insert(name);
            } else if !entry.is_dir() {
                contents.files.insert(name);
            }
        }
        Some(contents)
    }

    /// Explains why the package has no entry point, and what to do; `None` if it has one.
    pub(super) fn missing(&self, wanted: &Wanted<'_>) -> Option<String> {
        let language = Language::of_runtime(wanted.runtime).filter(|_| !wanted.web);
        let Some(language) = language else {
            // The server names the runtimes that it has.
            if !(wanted.web || wanted.runtime == CUSTOM) {
                return None;
            }
            let program = if wanted.web {
                "scf_bootstrap"
            } else {
                "bootstrap"
            };
            if self.may_have(program) {
                return None;
            }
            let kind = if wanted.web {
                "web function"
            } else {
                wanted.runtime
            };
            let advice = self.elsewhere(wanted, program);
            return Some(format!(
                "the package has no {program} at its root, the program that a {kind} starts; {advice}"
            ));
        };
        let (module, function) = wanted.handler.rsplit_once('.')?;
        let path = module.replace('.', "/");
        let suffixes = match language {
            Language::Python => PYTHON,
            Language::Node => NODE,
        };
        let path = if language == Language::Python {
            path.as_str()
        } else {
            module
        };
        let found = suffixes
            .iter()
            .any(|end| self.may_have(&format!("{path}{end}")))
            || (language == Language::Python && self.has_library(path));
        if found {
            return None;
        }
        let advice = self.suggestion(wanted, language, path, function);
        Some(format!(
            "the package has no {path}{}, which the handler {} of a {} function is in; {advice}",
            suffixes[0], wanted.handler, wanted.runtime
        ))
    }

    /// Returns whether a file is in the package, or may be behind a link.
    fn may_have(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.files.contains(path)
            || self.links.contains(path)
            || parents
                .into_iter()
                .any(|parent| self.links.contains(parent))
    }

    /// Returns whether there is a shared library of a module, as `index.cpython-311-x86_64-linux-gnu.so`.
    fn has_library(&self, path: &str) -> bool {
        let begin = format!("{path}.");
        let all = self.files.iter().chain(&self.links);
        let mut rest = all.filter_map(|name| name.strip_prefix(&begin));
        rest.any(|rest| rest.ends_with("so") && !rest.contains('/'))
    }

    /// Returns what to type for a missing handler.
    fn suggestion(
        &self,
        wanted: &Wanted<'_>,
        language: Language,
        path: &str,
        function: &str,
    ) -> String {
        let at_root = self.files.iter().filter(|name| !name.contains('/'));
        let at_root = at_root.filter(|name| Language::of_file(name) == Some(language));
        let (mut handlers, mut odd) = (Vec::new(), None);
        for name in at_root {
            let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
            let handler = format!("{stem}.{function}");
            if stem.contains('.') || Handler::parse(&handler).is_err() {
                odd = Some(name);
            } else if handlers.len() < SHOWN {
                handlers.push(format!("--handler {handler}"));
            }
        }
        if !handlers.is_empty() {
            return format!("say where it is, as {}", handlers.join(" or "));
        }
        if let Some(odd) = odd {
            return format!(
                "rename {odd}: a handler's file has 2 to 60 letters, digits, '-' or '_'"
            );
        }
        let other = match language {
            Language::Python => (NODE, "--runtime NodejsN.N, such as Nodejs18.15"),
            Language::Node => (PYTHON, "--runtime Python3.N, such as Python3.11"),
        };
        if !wanted.exists
            && other
                .0
                .iter()
                .any(|end| self.may_have(&format!("{path}{end}")))
        {
            return format!("its language needs {}", other.1);
        }
        self.elsewhere(wanted, &format!("{path}."))
    }

    /// Returns what to do if no handler of the language is at the root.
    fn elsewhere(&self, wanted: &Wanted<'_>, file: &str) -> String {
        for (program, flag) in [
            ("scf_bootstrap", "--type HTTP"),
            ("bootstrap", "--runtime CustomRuntime"),
        ] {
            if !wanted.exists && self.files.contains(program) {
                return format!("it has a {program}: add {flag}");
            }
        }
        let below = self.files.iter().find_map(|name| {
            let (folder, last) = name.rsplit_once('/')?;
            last.starts_with(file).then_some(folder)
        });
        match below {
            Some(folder) => format!("it has one in {folder}/: deploy that directory"),
            None if Language::of_runtime(wanted.runtime).is_some() && !wanted.web => {
                "add the file, or name another --handler file.function".to_owned()
            }
            None => "add it, and make it executable".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn contents(names: &[&str]) -> Contents {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default();
        for name in names {
            match name.split_once("->") {
                Some((name, target)) => writer.add_symlink(name, target, options).expect("added"),
                None => {
                    writer.start_file(*name, options).expect("added");
                    writer.write_all(b"x").expect("added");
                }
            }
        }
        let zip = writer.finish().expect("an archive").into_inner();
        Contents::of(&zip).expect("an archive")
    }

    fn missing(names: &[&str], runtime: &str, handler: &str) -> Option<String> {
        contents(names).missing(&Wanted {
            handler,
            runtime,
            web: false,
            exists: false,
        })
    }

    #[test]
    fn entry_point_is_found_where_the_platform_looks_for_it() {
        let (python, node) = ("Python3.11", "Nodejs18.15");
        for (names, runtime, handler) in [
            (&["index.py"][..], python, "index.main_handler"),
            (&["./index.py"], python, "index.main_handler"),
            (&["index.pyc"], python, "index.main_handler"),
            (&["app/__init__.py"], python, "app.main_handler"),
            (&["app/web.py"], python, "app.web.main_handler"),
            (&["app/web.py"], python, "app/web.main_handler"),
            (
                &["fast.cpython-311-x86_64-linux-gnu.so"],
                python,
                "fast.main_handler",
            ),
            (&["index.py->/opt/index.py"], python, "index.main_handler"),
            (&["app->/opt/app"], python, "app/web.main_handler"),
            (&["index.mjs"], node, "index.main_handler"),
            (&["index.cjs"], node, "index.main_handler"),
            (&["app/index.js"], node, "app.main_handler"),
            (&["bootstrap"], "CustomRuntime", "any.thing"),
            (&["main"], "Go1", "main.main"),
        ] {
            assert_eq!(missing(names, runtime, handler), None, "{names:?}");
        }
    }

    #[test]
    fn missing_entry_point_comes_with_what_to_type() {
        let (python, node) = ("Python3.11", "Nodejs18.15");
        for (names, runtime, handler, told) in [
            (
                &["single.py"][..],
                python,
                "index.main_handler",
                "--handler single.main_handler",
            ),
            (
                &["one.py", "two.py"],
                python,
                "index.main",
                "--handler one.main or --handler two.main",
            ),
            (
                &["index.js"],
                python,
                "index.main_handler",
                "--runtime Nodejs",
            ),
            (
                &["index.py"],
                node,
                "index.main_handler",
                "--runtime Python3",
            ),
            (
                &["app.js"],
                node,
                "index.main_handler",
                "--handler app.main_handler",
            ),
            (
                &["src/index.py"],
                python,
                "index.main_handler",
                "in src/: deploy that directory",
            ),
            (&["n.js"], node, "index.main_handler", "rename n.js"),
            (&["a.b.py"], python, "index.main_handler", "rename a.b.py"),
            (&["index.pyx"], python, "index.main_handler", "add the file"),
            (
                &["bootstrap"],
                python,
                "index.main_handler",
                "--runtime CustomRuntime",
            ),
            (
                &["scf_bootstrap"],
                python,
                "index.main_handler",
                "--type HTTP",
            ),
            (
                &["x/bootstrap"],
                "CustomRuntime",
                "index.main_handler",
                "in x/",
            ),
            (
                &[],
                "CustomRuntime",
                "index.main_handler",
                "no bootstrap at its root",
            ),
        ] {
            let said = missing(names, runtime, handler).expect("missing");
            assert!(said.contains(told), "{names:?}: {said}");
        }
        let web = Wanted {
            handler: "index.main_handler",
            runtime: python,
            web: true,
            exists: true,
        };
        assert_eq!(contents(&["scf_bootstrap"]).missing(&web), None);
        let said = contents(&["bootstrap"]).missing(&web).expect("missing");
        assert!(said.contains("no scf_bootstrap"), "{said}");
    }

    #[test]
    fn handler_follows_a_single_file_s_name() {
        for (file, expected) in [
            ("single.py", Some("single.main_handler")),
            ("/a/app.mjs", Some("app.main_handler")),
            ("n.js", None),
            ("bootstrap", None),
            ("data.json", None),
            (".py", None),
        ] {
            assert_eq!(
                handler_of_file(Path::new(file)).as_deref(),
                expected,
                "{file}"
            );
        }
    }
}
