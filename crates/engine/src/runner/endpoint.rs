//! The allow-list of HTTP endpoints for dead letters.
//!
//! Only endpoints that the operator names are allowed, because virga's host can reach services that its tenants must not (SSRF).

use std::str::FromStr;

use http::Uri;

/// Host and port of an endpoint, configured as `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Returns whether a URL points to this endpoint.
    pub fn covers(&self, url: &str) -> bool {
        read(url).is_some_and(|(endpoint, _)| endpoint == *self)
    }
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match read(text) {
            Some((endpoint, path)) if path == "/" => Ok(endpoint),
            _ => Err(()),
        }
    }
}

/// Parses a URL into its endpoint and path. Rejects URLs with user info, because parsers disagree on their host.
fn read(url: &str) -> Option<(Endpoint, String)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|all| !all.as_str().contains('@'))?;
    let endpoint = Endpoint {
        host: authority.host().to_ascii_lowercase(),
        port: uri.port_u16().unwrap_or(80),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    (uri.scheme_str() == Some("http")).then(|| (endpoint, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_matches_one_host_and_one_port() {
        let endpoint: Endpoint = "http://Dead.example:8080".parse().expect("an endpoint");
        for good in ["http://dead.example:8080", "http://DEAD.example:8080/a?b=c"] {
            assert!(endpoint.covers(good), "{good}");
        }
        for bad in [
            "http://dead.example",
            "http://dead.example:80801/",
            "https://dead.example:8080/",
            "http://dead.example:8080@other.example/",
            "http://x@dead.example:8080/",
            "http://dead.example.org:8080/",
            "dead.example:8080",
        ] {
            assert!(!endpoint.covers(bad), "{bad}");
        }
        let usual: Endpoint = "http://dead.example/".parse().expect("an endpoint");
        assert!(usual.covers("http://dead.example:80/path"));
        for bad in [
            "dead.example",
            "http://dead.example/path",
            "https://dead.example",
            "",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(()), "{bad}");
        }
    }
}
