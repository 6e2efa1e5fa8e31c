//! The headers in which proxies describe a request: client, scheme, host, port and prefix; and its trace context.
//!
//! Frameworks trust these headers, so a function never gets them as a caller wrote them. The platform sets them itself;
//! a trusted proxy's values are kept, since only the proxy knows the client's side. All spellings that CGI servers
//! confuse with one of them (`X_Forwarded_For`) are always removed.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;
use telemetry::trace::{self, TRACEPARENT, TRACESTATE};
use traffic::Peer;

use super::header_names::{is_read_as, plain};
use super::peer::caller;
use super::prefix;

/// The beginning of the names of these headers.
const FAMILY: &str = "x-forwarded-";
/// Further headers of this kind.
const OTHERS: [&str; 3] = ["x-forwarded", "forwarded", "x-real-ip"];

/// A header that the platform sets.
pub(super) type Added<'a> = (&'static str, Cow<'a, str>);

/// The description of a request's way to the platform.
#[derive(Debug, Default)]
pub(super) struct Forwarded<'a> {
    /// Whether the peer is a trusted proxy.
    trusted: bool,
    /// The headers that are added.
    pub(super) added: Vec<Added<'a>>,
}

impl<'a> Forwarded<'a> {
    /// Describes a request. `prefix` is the prefix before the function's path.
    pub(super) fn of(parts: &'a Parts, prefix: Option<&'a str>) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self::new(
            parts,
            prefix,
            caller(parts),
            peer.map(|peer| peer.hop),
            peer.is_some_and(|peer| peer.through_proxy),
            peer.is_some_and(|peer| peer.tls),
        )
    }

    fn new(
        parts: &'a Parts,
        prefix: Option<&'a str>,
        client: IpAddr,
        hop: Option<IpAddr>,
        trusted: bool,
        tls: bool,
    ) -> Self {
        let headers = &parts.headers;
        let hops = hop.map(|hop| traffic::forwarded(trusted, hop, headers));
        let (scheme, default_port) = if tls {
            ("https", "443")
        } else {
            ("http", "80")
        };
        let host = requested_host(parts);
        let port = host.map(|host| port(host).unwrap_or(default_port));
        // A list has the peer appended; of the others a proxy's value is kept.
        let mut added = Vec::with_capacity(6);
        added.extend(hops.map(|hops| ("x-forwarded-for", hops.into())));
        added.extend(prefix.map(|prefix| (prefix::FORWARDED, prefix.into())));
        let own = [
            ("x-forwarded-proto", Some(scheme.into())),
            ("x-forwarded-host", host.map(Cow::from)),
            ("x-forwarded-port", port.map(Cow::from)),
            ("x-real-ip", Some(client.to_canonical().to_string().into())),
        ];
        added.extend(own.into_iter().filter_map(|(name, value)| {
            let kept = trusted && headers.contains_key(name);
            value.filter(|_| !kept).map(|value| (name, value))
        }));
        let trace = trace::of(headers);
        let trace = trace::headers(trace.as_ref());
        added.extend(trace.map(|(name, value)| (name, value.to_owned().into())));
        Self { trusted, added }
    }

    /// Returns whether a caller's header is of this kind and must not reach the function as it is. A valid trace context
    /// is added again.
    pub(super) fn is_forged(&self, name: &str) -> bool {
        matches!(name, TRACEPARENT | TRACESTATE)
            || is_forwarding(name) && !(self.trusted && is_plain(name))
    }
}

/// Returns whether a header is of this kind in any spelling.
fn is_forwarding(name: &str) -> bool {
    let start = name.get(..FAMILY.len());
    start.is_some_and(|start| is_read_as(start, FAMILY))
        || OTHERS.iter().any(|other| is_read_as(name, other))
}

/// Returns whether a name is spelt with dashes alone.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| plain(byte) == byte)
}

/// Returns the requested host, with its port if the client named one.
fn requested_host(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = || parts.uri.authority().map(|authority| authority.as_str());
    header.filter(|host| !host.is_empty()).or_else(authority)
}

/// Returns the port in a host.
fn port(host: &str) -> Option<&str> {
    let (_, port) = host.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(port)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const CLIENT: [u8; 4] = [203, 0, 113, 7];
    const PEER: [u8; 4] = [10, 0, 0, 9];

    fn added(headers: &[(&str, &str)], trusted: bool, tls: bool) -> Vec<(String, String)> {
        let mut request = Request::builder().uri("/a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let forwarded =
            Forwarded::new(&parts, None, CLIENT.into(), Some(PEER.into()), trusted, tls);
        let mut added: Vec<_> = forwarded
            .added
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect();
        added.sort();
        added
    }

    fn expected(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        let rows = rows.iter();
        rows.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn platform_describes_the_request_unless_a_trusted_proxy_does() {
        let sent = [
            ("host", "a.com"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "gopher"),
            ("x-real-ip", "1.1.1.1"),
        ];
        assert_eq!(
            added(&sent, false, true),
            expected(&[
                ("x-forwarded-for", "10.0.0.9"),
                ("x-forwarded-host", "a.com"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "203.0.113.7"),
            ])
        );
        assert_eq!(
            added(&sent, true, false),
            expected(&[
                ("x-forwarded-for", "1.1.1.1, 10.0.0.9"),
                ("x-forwarded-host", "a.com"),
                ("x-forwarded-port", "80"),
            ])
        );
        // HTTP/1.0 needs no host.
        assert_eq!(
            added(&[], false, false),
            expected(&[
                ("x-forwarded-for", "10.0.0.9"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "203.0.113.7"),
            ])
        );
    }

    #[test]
    fn each_spelling_of_a_forwarding_header_is_forged() {
        let forged = |trusted, name| {
            let added = Vec::new();
            Forwarded { trusted, added }.is_forged(name)
        };
        for name in [
            "forwarded",
            "x-real-ip",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-ssl",
        ] {
            assert!(forged(false, name) && !forged(true, name), "{name}");
        }
        for name in [
            "x_real_ip",
            "x_forwarded_for",
            "x-forwarded_proto",
            "X.Real.IP",
        ] {
            assert!(forged(false, name) && forged(true, name), "{name}");
        }
        for name in [
            "x-forward",
            "x-real-ips",
            "forwarded-by",
            "host",
            "\u{fffd}",
        ] {
            assert!(!forged(false, name) && !forged(true, name), "{name}");
        }
    }

    #[test]
    fn port_is_the_requested_one() {
        for (host, expected) in [
            ("a.com", None),
            ("a.com:9400", Some("9400")),
            ("[::1]:9400", Some("9400")),
            ("[::1]", None),
            ("a.com:", None),
        ] {
            assert_eq!(port(host), expected, "{host}");
        }
    }
}
