//! Which endpoints dead letters may go to: those that the operator names, and no others, since virga's own host reaches
//! what its tenants must not.

use std::str::FromStr;

use axum::http::Uri;

/// Host and port of an endpoint, told as `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Whether a URL leads there.
    pub(crate) fn covers(&self, url: &str) -> bool {
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

/// Where a URL leads, and the path there. One with a user's name is none, since not everyone reads it alike.
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
        let endpoint: Endpoint = "http://Letters.example:8080".parse().expect("an endpoint");
        for good in [
            "http://letters.example:8080",
            "http://LETTERS.example:8080/a?b=c",
        ] {
            assert!(endpoint.covers(good), "{good}");
        }
        for bad in [
            "http://letters.example",
            "http://letters.example:80801/",
            "https://letters.example:8080/",
            "http://letters.example:8080@other.example/",
            "http://x@letters.example:8080/",
            "http://letters.example.org:8080/",
            "letters.example:8080",
        ] {
            assert!(!endpoint.covers(bad), "{bad}");
        }
        let usual: Endpoint = "http://letters.example/".parse().expect("an endpoint");
        assert!(usual.covers("http://letters.example:80/path"));
        for bad in [
            "letters.example",
            "http://letters.example/path",
            "https://letters.example",
            "",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(()), "{bad}");
        }
    }
}
