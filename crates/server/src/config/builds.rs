//! Builds: where dependencies come from. Builds never see the credentials of the index.

use std::path::PathBuf;
use std::time::Duration;

use engine::index_proxy::PackageIndex;

use super::option::options;
use super::parse::{Parsed, number, one_of, optional, paths, refused, seconds};

options! {
    /// Options of builds.
    BuildOptions {
        /// Maximum time to install a package's dependencies (s)
        install_timeout: Duration = "SECONDS", "300" => seconds;

        /// Memory of a build, with the files it writes (MB), at most half of the account's quota and of node_memory_mb; both are
        /// charged while it runs
        install_memory_mb: u64 = "MB", "2048" => number(128..=1 << 20);

        /// Package index for pip, with user and password if it needs them (builds do not see these); empty =
        /// https://pypi.org/simple
        install_index: Option<PackageIndex> = "URL", "" => optional(index);

        /// Package registry for npm, without credentials, since builds would see them; empty = https://registry.npmjs.org
        install_registry: Option<String> = "URL", "" => optional(registry);

        /// Host directories with wheels that pip may read, separated by commas
        install_directories: Vec<PathBuf> = "PATHS", "" => paths;

        /// Network of builds (pip, npm): functions = as functions have it, host = everything that this host reaches
        install_network: BuildNetwork = "WHICH", "functions" => one_of([
            ("functions", BuildNetwork::Functions),
            ("host", BuildNetwork::Host),
        ]);
    }
}

/// The network of builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildNetwork {
    Functions,
    Host,
}

/// Shown instead of a value that may contain a password.
const HIDDEN: &str = "a value that is not shown";

fn index(url: &str) -> Parsed<PackageIndex> {
    let allowed = "the URL of a package index, as https://host/simple or https://user:password@host/simple, is";
    parse_index_url(url).map_or_else(|| refused(HIDDEN, allowed), Ok)
}

fn registry(url: &str) -> Parsed<String> {
    let allowed = "the URL of a package registry without credentials, as https://host/npm, is";
    let registry = parse_index_url(url).filter(|registry| registry.credentials.is_none());
    registry.map_or_else(|| refused(HIDDEN, allowed), |registry| Ok(registry.url))
}

/// Parses a URL with or without credentials.
fn parse_index_url(url: &str) -> Option<PackageIndex> {
    let parsed: axum::http::Uri = url.parse().ok()?;
    let scheme = parsed
        .scheme_str()
        .filter(|s| ["http", "https"].contains(s))?;
    let authority = parsed.authority()?;
    let (user, host) = match authority.as_str().rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority.as_str()),
    };
    if parsed.query().is_some() || parsed.host()?.is_empty() {
        return None;
    }
    let credentials = match user {
        Some(user) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            Some((percent_decoded(name)?, percent_decoded(password)?))
        }
        None => None,
    };
    let path = parsed.path().trim_end_matches('/');
    Some(PackageIndex {
        url: format!("{scheme}://{host}{path}"),
        credentials,
    })
}

/// Decodes percent-escapes.
fn percent_decoded(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_stripped_from_the_url_and_from_debug_output() {
        let with = parse_index_url("https://us%40er:p%3Aw@index.example:8443/a/simple/")
            .expect("an index");
        assert_eq!(with.url, "https://index.example:8443/a/simple");
        assert_eq!(with.credentials, Some(("us@er".into(), "p:w".into())));
        assert!(!format!("{with:?}").contains("p:w"));
        let without = parse_index_url("http://10.0.0.1/simple").expect("an index");
        assert_eq!(without.url, "http://10.0.0.1/simple");
        assert_eq!(without.credentials, None);
        for bad in [
            "index",
            "ftp://host/simple",
            "/simple",
            "https://h/s?token=x",
        ] {
            assert_eq!(parse_index_url(bad), None, "{bad}");
        }
    }
}
