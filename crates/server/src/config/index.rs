//! The package index and registry that builds install from. Builds never see the credentials of the index.

use std::fmt;

use super::RawConfig;

/// A package index that the operator configured.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PackageIndex {
    /// The URL without credentials and without a trailing `/`.
    pub(crate) url: String,
    /// A user name and a password.
    pub(crate) credentials: Option<(String, String)>,
}

/// Omits the credentials.
impl fmt::Debug for PackageIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackageIndex")
            .field("url", &self.url)
            .field("credentials", &self.credentials.is_some())
            .finish()
    }
}

const ALLOWED_INDEX: &str =
    "the URL of a package index, as https://host/simple or https://user:password@host/simple, is";

impl RawConfig {
    pub(super) fn package_index(&mut self) -> Option<PackageIndex> {
        let (url, source) = self.raw("install_index");
        if url.is_empty() {
            return None;
        }
        let index = parse_index_url(&url);
        if index.is_none() {
            // The value may contain a password.
            self.problem(
                "install_index",
                "a value that is not shown",
                &source,
                ALLOWED_INDEX,
            );
        }
        index
    }
}

const ALLOWED_REGISTRY: &str =
    "the URL of a package registry without credentials, as https://host/npm, is";

impl RawConfig {
    pub(super) fn package_registry(&mut self) -> Option<String> {
        let (url, source) = self.raw("install_registry");
        if url.is_empty() {
            return None;
        }
        let registry = parse_index_url(&url).filter(|registry| registry.credentials.is_none());
        if registry.is_none() {
            // The value may contain a password.
            let given = "a value that is not shown";
            self.problem("install_registry", given, &source, ALLOWED_REGISTRY);
        }
        registry.map(|registry| registry.url)
    }
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
