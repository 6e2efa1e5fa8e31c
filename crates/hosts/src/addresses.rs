//! The addresses of functions' URLs: a host for each function, or a path where hosts have no names.

use std::net::SocketAddr;

use model::{AccountId, GatewayApi, TriggerName};
use sandbox::network::{API_NAME, API_PORT};

/// The path prefix of functions with a URL.
const BELOW: &str = "/url/";

/// Writes and parses the addresses of URLs.
#[derive(Debug)]
pub struct Addresses {
    scheme: String,
    /// `.<region>.<domain>`, the suffix of all hosts.
    suffix: String,
    port: Option<u16>,
    /// Whether the path form is served, too.
    paths: bool,
}

impl Addresses {
    /// Creates the addresses for a server that listens at `listening` and is reached by a public URL if it has one.
    pub fn new(
        region: &str,
        domain: &str,
        public_url: Option<&str>,
        listening: SocketAddr,
    ) -> Self {
        let (scheme, port) = match public_url.and_then(|url| url.split_once("://")) {
            Some((scheme, host)) => (
                scheme,
                host.rsplit_once(':')
                    .and_then(|(_, port)| port.parse().ok()),
            ),
            None => ("http", Some(listening.port())),
        };
        Self {
            scheme: scheme.to_owned(),
            suffix: format!(".{region}.{domain}").to_ascii_lowercase(),
            port,
            paths: true,
        }
    }

    /// Sets whether the path form is served to callers from outside. Functions always reach each other by path.
    pub fn with_paths(self, paths: bool) -> Self {
        Self { paths, ..self }
    }

    /// Returns whether the path form is served to callers from outside.
    pub fn has_paths(&self) -> bool {
        self.paths
    }

    /// Returns the public URL of a function.
    pub fn of(&self, account: AccountId, id: &TriggerName) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{account}-{id}{}{port}", self.scheme, self.suffix)
    }

    /// Returns the public URL of an API.
    pub fn of_api(&self, account: AccountId, api: &GatewayApi) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let (service, stage, path) = (&api.service, api.stage.as_str(), api.path.as_str());
        let path = path.trim_end_matches('/');
        format!(
            "{}://{service}-{account}{}{port}/{stage}{path}",
            self.scheme, self.suffix
        )
    }

    /// Returns the URL of a function for other functions, which resolve no other host name.
    pub fn inside(id: &TriggerName) -> String {
        format!("http://{API_NAME}:{API_PORT}{BELOW}{id}")
    }

    /// Returns whether a host lies in the domain of functions' URLs.
    pub fn covers(&self, host: &str) -> bool {
        host.ends_with(&self.suffix) || host == &self.suffix[1..]
    }

    /// Parses the account and the id from a function's host, or from a service's host, which has them in reverse order.
    pub fn read_host<'a>(&self, host: &'a str) -> Option<(&'a str, &'a str)> {
        let name = host.strip_suffix(&self.suffix)?;
        match is_service(name) {
            true => name.rsplit_once('-').map(|(id, account)| (account, id)),
            false => name.split_once('-'),
        }
    }
}

/// Returns whether an id is a service of the API gateway.
pub fn is_service(id: &str) -> bool {
    id.starts_with("service-")
}

/// Parses the id and the path below it from a path of the path form.
pub fn read_path(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix(BELOW)?;
    let at = rest.find('/').unwrap_or(rest.len());
    Some(rest.split_at(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_addresses_round_trip() {
        let id = TriggerName::parse("abcdefghij").expect("a name");
        let listening = SocketAddr::from(([127, 0, 0, 1], 9400));
        let rows = [
            (None, "http://125-abcdefghij.ap-guangzhou.localhost:9400"),
            (
                Some("https://scf.example.com"),
                "https://125-abcdefghij.ap-guangzhou.localhost",
            ),
            (
                Some("https://scf.example.com:8443"),
                "https://125-abcdefghij.ap-guangzhou.localhost:8443",
            ),
        ];
        for (public_url, expected) in rows {
            let addresses = Addresses::new("ap-guangzhou", "localhost", public_url, listening);
            assert_eq!(addresses.of(AccountId(125), &id), expected);
            let host = "125-abcdefghij.ap-guangzhou.localhost";
            assert_eq!(addresses.read_host(host), Some(("125", "abcdefghij")));
            assert!(addresses.covers(host) && !addresses.covers("a.localhost"));
            let host = "service-abcdefgh-125.ap-guangzhou.localhost";
            assert_eq!(addresses.read_host(host), Some(("125", "service-abcdefgh")));
            assert_eq!(addresses.read_host("a.localhost"), None);
        }
        assert_eq!(
            Addresses::inside(&id),
            "http://virga.internal:9400/url/abcdefghij"
        );
        for (path, expected) in [
            ("/url/abc", Some(("abc", ""))),
            ("/url/abc/", Some(("abc", "/"))),
            ("/url/abc/d/e", Some(("abc", "/d/e"))),
            ("/urls/abc", None),
            ("/", None),
        ] {
            assert_eq!(read_path(path), expected, "{path}");
        }
    }
}
