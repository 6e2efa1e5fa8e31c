//! The runtime of a function whose user names none.

use std::path::Path;

use operator::ListRuntimes;
use scf::action::CreateFunction;
use scf::types as t;

use super::client::Client;
use super::entry::Language;
use super::failure::Failure;

/// Range of Python 3 minor versions to probe for.
const PYTHON_MINOR_MIN: u8 = 6;
const PYTHON_MINOR_MAX: u8 = 20;

/// Returns the server's newest runtime of the source's language: of a single file's, else Python.
pub(super) fn default_runtime(
    client: &Client,
    name: &str,
    source: &Path,
) -> Result<String, Failure> {
    let file = source.file_name().filter(|_| source.is_file());
    let language = file.and_then(|file| Language::of_file(file.to_str()?));
    let language = language.unwrap_or(Language::Python);
    match (client.call::<ListRuntimes>(&t::Empty {}), language) {
        (Ok(served), _) => newest(language, &served.runtimes).ok_or_else(|| not_served(language)),
        // Only root keys may list runtimes; SCF's API has no such action.
        (Err(_), Language::Python) => probe_runtimes(client, name),
        (Err(_), Language::Node) => Err(Failure::Usage(format!(
            "{} needs a runtime, which this key may not list; add one, such as --runtime Nodejs18.15",
            source.display()
        ))),
    }
}

/// Returns the highest version of a language in a list of runtimes; of Python only 3.
fn newest(language: Language, runtimes: &[String]) -> Option<String> {
    let version = |name: &&String| {
        let (major, minor) = name.strip_prefix(language.prefix())?.split_once('.')?;
        let version = (major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
        (language != Language::Python || version.0 == 3).then_some(version)
    };
    let served = runtimes.iter().filter(|name| version(name).is_some());
    served.max_by_key(version).cloned()
}

fn not_served(language: Language) -> Failure {
    match language {
        Language::Python => no_python(),
        Language::Node => Failure::Usage(
            "the server has no Node.js; install it there, and check with virga doctor".into(),
        ),
    }
}

fn no_python() -> Failure {
    Failure::Usage("the server has no Python; install it there, and check with virga doctor".into())
}

/// Finds the newest Python runtime for a key that may not list runtimes: the error for a request without code shows whether its
/// runtime is available.
fn probe_runtimes(client: &Client, name: &str) -> Result<String, Failure> {
    for minor in (PYTHON_MINOR_MIN..=PYTHON_MINOR_MAX).rev() {
        let runtime = format!("Python3.{minor}");
        let probe = t::CreateFunctionRequest {
            function_name: name.to_owned(),
            namespace: client.namespace(),
            runtime: Some(runtime.clone()),
            ..t::CreateFunctionRequest::default()
        };
        match client.call::<CreateFunction>(&probe) {
            Err(e) if e.is_code("InvalidParameterValue.Runtime") => {}
            Err(e) if e.is_code("MissingParameter.Code") => return Ok(runtime),
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(runtime),
        }
    }
    Err(no_python())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_runtime_has_the_highest_version_of_its_language() {
        let newest = |language, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            newest(language, &names)
        };
        let names = [
            "Python3.9",
            "Python3.11",
            "Python2.7",
            "Nodejs20.20",
            "Nodejs18.30",
        ];
        let python = newest(Language::Python, &names);
        assert_eq!(python.as_deref(), Some("Python3.11"));
        let node = newest(Language::Node, &names);
        assert_eq!(node.as_deref(), Some("Nodejs20.20"));
        assert_eq!(newest(Language::Python, &["Nodejs20.20"]), None);
        assert_eq!(newest(Language::Node, &["Python3.9"]), None);
    }
}
