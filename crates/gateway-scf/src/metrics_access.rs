//! Who may read metrics: loopback clients, clients with the token, or those of a separate listener.

use std::fmt;
use std::net::IpAddr;

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderValue};
use subtle::ConstantTimeEq;
use traffic::Peer;

use super::origin::OverTls;

/// Minimum length of a token.
const TOKEN_MIN_BYTES: usize = 16;
/// Headers that show that a proxy forwarded the request.
const PROXY_HEADERS: &[&str] = &["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// The token that clients send as `Authorization: Bearer …`.
#[derive(Clone, PartialEq, Eq)]
pub struct MetricsToken(String);

impl fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsToken(…)")
    }
}

impl MetricsToken {
    /// Parses the content of a token file.
    ///
    /// # Errors
    /// Returns the allowed form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        let fine = |b: u8| b.is_ascii_graphic();
        if token.len() < TOKEN_MIN_BYTES || !token.bytes().all(fine) {
            return Err(format!(
                "one line of {TOKEN_MIN_BYTES} or more letters, digits and signs, as openssl rand -hex 32 prints"
            ));
        }
        Ok(Self(token.to_owned()))
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let given = given.and_then(|given| {
            let (scheme, token) = given.split_at_checked(b"bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
        });
        given.is_some_and(|given| given.ct_eq(self.0.as_bytes()).into())
    }
}

/// The access rules of the metrics endpoint.
#[derive(Clone, Debug, Default)]
pub struct MetricsAccess {
    /// The token that every client must send, also on the loopback. `None` admits loopback clients only.
    pub token: Option<MetricsToken>,
    /// Whether metrics are served on a separate listener only.
    pub separate_listener: bool,
}

/// The trust in a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsCaller {
    /// A client with the token, or on the loopback.
    Trusted,
    /// A client without the required token.
    Unauthenticated,
    Untrusted,
}

impl MetricsAccess {
    pub(super) fn caller(&self, request: &Request) -> MetricsCaller {
        let peer = request.extensions().get::<Peer>();
        self.caller_from(peer.map(|peer| peer.address), request)
    }

    fn caller_from(&self, from: Option<IpAddr>, request: &Request) -> MetricsCaller {
        let headers = request.headers();
        if let Some(token) = &self.token {
            return match token.is_in(headers) {
                true => MetricsCaller::Trusted,
                false => MetricsCaller::Unauthenticated,
            };
        }
        let here = from.is_some_and(|from| from.to_canonical().is_loopback());
        let secure = request.extensions().get::<OverTls>().is_some();
        let forwarded = PROXY_HEADERS.iter().any(|name| headers.contains_key(*name));
        match here && !secure && !forwarded {
            true => MetricsCaller::Trusted,
            false => MetricsCaller::Untrusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Body;

    use super::*;

    fn request(headers: &[(&str, &str)], secure: bool) -> Request {
        let mut request = Request::new(Body::empty());
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().expect("a name");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        }
        if secure {
            request.extensions_mut().insert(OverTls);
        }
        request
    }

    fn from(peer: &str) -> Option<IpAddr> {
        let peer: SocketAddr = peer.parse().expect("an address");
        Some(peer.ip())
    }

    #[test]
    fn metrics_require_loopback_or_token() {
        let open = MetricsAccess::default();
        let rows = [
            ("127.0.0.1:5", None, false, MetricsCaller::Trusted),
            ("[::1]:5", None, false, MetricsCaller::Trusted),
            ("[::ffff:127.0.0.9]:5", None, false, MetricsCaller::Trusted),
            ("127.0.0.1:5", None, true, MetricsCaller::Untrusted),
            (
                "127.0.0.1:5",
                Some(("x-forwarded-for", "1.2.3.4")),
                false,
                MetricsCaller::Untrusted,
            ),
            (
                "127.0.0.1:5",
                Some(("via", "1.1 proxy")),
                false,
                MetricsCaller::Untrusted,
            ),
            ("10.0.0.1:5", None, false, MetricsCaller::Untrusted),
            ("[::ffff:10.0.0.1]:5", None, false, MetricsCaller::Untrusted),
            (
                "10.0.0.1:5",
                Some(("authorization", "Bearer ")),
                false,
                MetricsCaller::Untrusted,
            ),
        ];
        for (peer, header, secure, expected) in rows {
            let request = request(header.as_slice(), secure);
            let from = from(peer);
            assert_eq!(
                open.caller_from(from, &request),
                expected,
                "{peer} {header:?}"
            );
        }
        let token = MetricsToken::parse("0123456789abcdef\n").expect("a token");
        let guarded = MetricsAccess {
            token: Some(token),
            separate_listener: false,
        };
        for (given, expected) in [
            ("Bearer 0123456789abcdef", MetricsCaller::Trusted),
            ("bearer 0123456789abcdef", MetricsCaller::Trusted),
            ("Bearer 0123456789abcdeF", MetricsCaller::Unauthenticated),
            ("Bearer 0123456789abcde", MetricsCaller::Unauthenticated),
            ("Bearer 0123456789abcdef0", MetricsCaller::Unauthenticated),
            ("Bearer ", MetricsCaller::Unauthenticated),
            ("Basic 0123456789abcdef", MetricsCaller::Unauthenticated),
            ("", MetricsCaller::Unauthenticated),
        ] {
            for peer in ["127.0.0.1:5", "10.0.0.1:5"] {
                let request = request(&[("authorization", given)], true);
                let from = from(peer);
                assert_eq!(
                    guarded.caller_from(from, &request),
                    expected,
                    "{peer} {given:?}"
                );
            }
        }
        for wrong in ["", "short", "0123456789 abcdef", "0123456789abcdef\nmore"] {
            assert!(MetricsToken::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
