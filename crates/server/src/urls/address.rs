//! Where functions' URLs are: a host of each one's own, or a path for where hosts have no names.

use std::net::SocketAddr;

use model::{AccountId, GatewayApi, TriggerName};
use sandbox::network::{API_NAME, API_PORT};

/// Below it lies every function that has a URL.
const BELOW: &str = "/url/";

/// How URLs are written, and read.
#[derive(Debug)]
pub(crate) struct Addresses {
    scheme: String,
    /// `.<region>.<domain>`, which all hosts end with.
    suffix: String,
    port: Option<u16>,
    /// Whether they are found by path, too.
    paths: bool,
}

impl Addresses {
    /// For a server that listens somewhere, and is reached by a public URL where it has one.
    pub(crate) fn new(
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

    /// The same, found by path only where that is wanted. Functions always find each other by path.
    pub(crate) fn with_paths(self, paths: bool) -> Self {
        Self { paths, ..self }
    }

    /// Whether functions are found by path, too.
    pub(super) fn has_paths(&self) -> bool {
        self.paths
    }

    /// A function's URL for everybody.
    pub(crate) fn of(&self, account: AccountId, id: &TriggerName) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{account}-{id}{}{port}", self.scheme, self.suffix)
    }

    /// Where an API is, for everybody.
    pub(crate) fn of_api(&self, account: AccountId, api: &GatewayApi) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let (service, stage, path) = (&api.service, api.stage.as_str(), api.path.as_str());
        let path = path.trim_end_matches('/');
        format!(
            "{}://{service}-{account}{}{port}/{stage}{path}",
            self.scheme, self.suffix
        )
    }

    /// The same for functions, which resolve no other name.
    pub(crate) fn inside(id: &TriggerName) -> String {
        format!("http://{API_NAME}:{API_PORT}{BELOW}{id}")
    }

    /// Whether a host lies where functions have theirs.
    pub(crate) fn covers(&self, host: &str) -> bool {
        host.ends_with(&self.suffix) || host == &self.suffix[1..]
    }

    /// The account and the id of a host that is a function's, or a service's, which names them the other way around.
    pub(super) fn read_host<'a>(&self, host: &'a str) -> Option<(&'a str, &'a str)> {
        let name = host.strip_suffix(&self.suffix)?;
        match is_service(name) {
            true => name.rsplit_once('-').map(|(id, account)| (account, id)),
            false => name.split_once('-'),
        }
    }
}

/// Whether an id is that of a service of the API gateway.
pub(super) fn is_service(id: &str) -> bool {
    id.starts_with("service-")
}

/// The id in a path that is a function's, and the path below.
pub(super) fn read_path(path: &str) -> Option<(&str, &str)> {
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
