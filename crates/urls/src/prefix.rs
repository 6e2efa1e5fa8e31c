//! The prefix of the path form, `/url/<id>`, which the function does not see.
//!
//! `X-Forwarded-Prefix` names it to the function. Most servers ignore that header, so the prefix is added to the paths
//! in their replies, as reverse proxies do that strip a prefix.

use std::borrow::Cow;

use axum::http::header::{CONTENT_LOCATION, HOST, LOCATION, REFRESH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use traffic::Peer;

/// The header that names the prefix to a server.
pub(super) const FORWARDED: &str = "x-forwarded-prefix";
/// The header by which a proxy names the requested host.
const FORWARDED_HOST: &str = "x-forwarded-host";

/// The prefix before the path that a function sees.
#[derive(Debug)]
pub(super) struct Prefix<'a> {
    parts: &'a Parts,
    /// The prefix without a trailing slash.
    own: &'a str,
    /// The prefix as clients see it, including the part that a trusted proxy strips.
    seen: Cow<'a, str>,
}

impl<'a> Prefix<'a> {
    /// Returns the prefix of a request whose function sees `path`; `None` without a prefix.
    pub(super) fn of(parts: &'a Parts, path: &str) -> Option<Self> {
        let whole = parts.uri.path();
        let own = whole.strip_suffix(path).unwrap_or(whole);
        if own.is_empty() {
            return None;
        }
        let before = is_through_proxy(parts).then(|| forwarded_prefix(&parts.headers));
        let seen = match before.flatten().filter(|before| !before.is_empty()) {
            Some(before) => Cow::Owned(before + own),
            None => Cow::Borrowed(own),
        };
        Some(Self { parts, own, seen })
    }

    /// Returns the prefix for `X-Forwarded-Prefix`.
    pub(super) fn as_seen(&self) -> &str {
        &self.seen
    }

    /// Adds the prefix to the paths in a reply's headers. `leads` returns whether a path is another function's.
    pub(super) fn restore(&self, headers: &mut HeaderMap, leads: impl Fn(&[u8]) -> bool) {
        for (name, value) in headers.iter_mut() {
            let text = value.as_bytes();
            let whole = if name == LOCATION || name == CONTENT_LOCATION {
                self.restored(text, &leads)
            } else if name == REFRESH {
                let at = refreshed(text);
                at.and_then(|at| {
                    let restored = self.restored(&text[at..], &leads)?;
                    Some([&text[..at], &restored].concat())
                })
            } else {
                None
            };
            if let Some(Ok(whole)) = whole.map(|whole| HeaderValue::from_bytes(&whole)) {
                *value = whole;
            }
        }
    }

    /// Returns a reference with the prefix; `None` if it needs none.
    fn restored(&self, reference: &[u8], leads: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let (before, path) = match authority(reference) {
            Some((scheme, host, rest)) => {
                self.is_asked(scheme, host).then_some(())?;
                reference.split_at(reference.len() - rest.len())
            }
            None if reference.starts_with(b"/") => (&b""[..], reference),
            None if is_relative(reference) => return self.relative(reference),
            None => return None,
        };
        // A client removes dot segments before it follows the reference.
        let (followed, climbs) = without_dots(path);
        if is_below(&followed, &self.seen) || is_below(&followed, self.own) || leads(&followed) {
            return None;
        }
        // `..` stops at the root, which is the function's.
        let path = if climbs { &*followed } else { path };
        let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
        Some([before, self.seen.as_bytes(), slash, path].concat())
    }

    /// Returns a relative reference with the prefix, if a client would resolve it to another path than without one.
    fn relative(&self, reference: &[u8]) -> Option<Vec<u8>> {
        let whole = self.parts.uri.path();
        let seen = whole.strip_prefix(self.own).unwrap_or(whole);
        let directory = seen.rfind('/').map_or("/", |at| &seen[..=at]);
        let path = [directory.as_bytes(), reference].concat();
        let (followed, climbs) = without_dots(&path);
        if climbs {
            return Some([self.seen.as_bytes(), &followed].concat());
        }
        // Without a trailing slash a client resolves the reference one level too high.
        seen.is_empty()
            .then(|| [self.seen.as_bytes(), &path].concat())
    }

    /// Returns whether a host is the requested one.
    fn is_asked(&self, scheme: &[u8], host: &[u8]) -> bool {
        let Parts { headers, uri, .. } = self.parts;
        let forwarded = headers.get_all(FORWARDED_HOST).iter();
        let forwarded = forwarded.filter(|_| is_through_proxy(self.parts));
        let forwarded_prefix = headers.get_all(HOST).iter().chain(forwarded);
        let forwarded_prefix = forwarded_prefix.map(HeaderValue::as_bytes);
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().as_bytes());
        let mut asked = forwarded_prefix.chain(authority);
        asked.any(|asked| is_same_host(scheme, host, asked))
    }
}

fn is_through_proxy(parts: &Parts) -> bool {
    let peer = parts.extensions.get::<Peer>();
    peer.is_some_and(|peer| peer.through_proxy)
}

/// Joins the prefixes that proxies have stripped; `None` if one is not a path.
fn forwarded_prefix(headers: &HeaderMap) -> Option<String> {
    let mut whole = String::new();
    for value in headers.get_all(FORWARDED) {
        for part in value.to_str().ok()?.split(',') {
            let part = part.trim().trim_end_matches('/');
            let is_path = part.starts_with('/') && !part.starts_with("//");
            if !(part.is_empty() || is_path) {
                return None;
            }
            whole.push_str(part);
        }
    }
    Some(whole)
}

/// Splits a reference into its scheme (may be empty), its host and the rest.
fn authority(reference: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let slashes = reference.windows(2).position(|two| two == b"//")?;
    let (scheme, rest) = (&reference[..slashes], &reference[slashes + 2..]);
    let scheme = match scheme {
        b"" => scheme,
        _ => scheme
            .strip_suffix(b":")
            .filter(|scheme| scheme.iter().all(u8::is_ascii_alphanumeric))?,
    };
    let end = rest.iter().position(|byte| b"/?#\\".contains(byte));
    let (host, rest) = rest.split_at(end.unwrap_or(rest.len()));
    Some((scheme, host, rest))
}

/// Returns whether a reference's host is the requested one, whatever the scheme.
fn is_same_host(scheme: &[u8], host: &[u8], asked: &[u8]) -> bool {
    let port: &[&[u8]] = match scheme.to_ascii_lowercase().as_slice() {
        b"http" => &[b":80"],
        b"https" => &[b":443"],
        b"" => &[b":80", b":443"],
        _ => return false,
    };
    let plain = |host: &[u8]| {
        let short = port.iter().find_map(|port| host.strip_suffix(*port));
        short.unwrap_or(host).to_ascii_lowercase()
    };
    plain(host) == plain(asked)
}

/// Returns whether a reference is relative to the request's path.
fn is_relative(reference: &[u8]) -> bool {
    let end = reference.iter().position(|byte| b"/?#".contains(byte));
    let first = &reference[..end.unwrap_or(reference.len())];
    !first.is_empty() && !first.contains(&b':')
}

/// Removes the dot segments of a reference's path as browsers do, which take `%2e` for a dot and `\\` for a slash. Also
/// returns whether `..` goes beyond the root.
fn without_dots(reference: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let end = reference.iter().position(|byte| b"?#".contains(byte));
    let (path, rest) = reference.split_at(end.unwrap_or(reference.len()));
    let mut segments = path.split(|byte| b"/\\".contains(byte)).skip(1).peekable();
    if segments.clone().all(|segment| dots(segment) == 0) {
        return (Cow::Borrowed(reference), false);
    }
    let (mut left, mut climbs) = (Vec::new(), false);
    while let Some(segment) = segments.next() {
        match dots(segment) {
            0 => left.push(segment),
            1 => {}
            _ => climbs |= left.pop().is_none(),
        }
        // A dot segment at the end leaves a slash.
        if dots(segment) > 0 && segments.peek().is_none() {
            left.push(b"");
        }
    }
    let mut followed = Vec::with_capacity(reference.len());
    for segment in left {
        followed.push(b'/');
        followed.extend_from_slice(segment);
    }
    followed.extend_from_slice(rest);
    (Cow::Owned(followed), climbs)
}

/// Returns the number of dots that a segment consists of, one or two; of any other segment 0.
fn dots(segment: &[u8]) -> usize {
    let (mut rest, mut count) = (segment, 0);
    while let Some(after) = rest.strip_prefix(b".").or_else(|| {
        let encoded = rest.get(..3)?.eq_ignore_ascii_case(b"%2e");
        encoded.then(|| &rest[3..])
    }) {
        (rest, count) = (after, count + 1);
    }
    if rest.is_empty() && count <= 2 {
        count
    } else {
        0
    }
}

/// Returns whether a path equals a prefix or is below it.
fn is_below(path: &[u8], prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.as_bytes());
    rest.is_some_and(|rest| rest.first().is_none_or(|next| b"/?#".contains(next)))
}

/// Returns the position of the reference in a `Refresh` header: `5; url=/x`.
fn refreshed(value: &[u8]) -> Option<usize> {
    let at = value
        .windows(4)
        .position(|four| four.eq_ignore_ascii_case(b"url="))?;
    Some(at + 4)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn parts(path: &str) -> Parts {
        let request = Request::builder().uri(path).header(HOST, "a.com:9400");
        request.body(()).expect("a request").into_parts().0
    }

    fn restored(path: &str, seen: &str, name: axum::http::HeaderName, value: &str) -> String {
        let parts = parts(path);
        let prefix = Prefix::of(&parts, seen).expect("a prefix");
        let mut headers = HeaderMap::new();
        headers.insert(
            &name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
        let other = |path: &[u8]| path.starts_with(b"/url/other");
        prefix.restore(&mut headers, other);
        String::from_utf8_lossy(headers[name].as_bytes()).into_owned()
    }

    #[test]
    fn only_the_function_s_own_paths_get_the_prefix() {
        let rows = [
            ("/x", "/url/f/x"),
            ("/", "/url/f/"),
            ("/x?next=/y#z", "/url/f/x?next=/y#z"),
            ("/regen/\u{96e8}", "/url/f/regen/\u{96e8}"),
            ("/x?to=http://b.com/", "/url/f/x?to=http://b.com/"),
            ("http://a.com:9400/x", "http://a.com:9400/url/f/x"),
            ("HTTPS://A.com:9400/x", "HTTPS://A.com:9400/url/f/x"),
            ("http://a.com:9400", "http://a.com:9400/url/f/"),
            ("http://a.com:9400?q", "http://a.com:9400/url/f/?q"),
            ("//a.com:9400/x", "//a.com:9400/url/f/x"),
            // A server that respects the header.
            ("/url/f", "/url/f"),
            ("/url/f/x", "/url/f/x"),
            ("/url/f?x", "/url/f?x"),
            ("http://a.com:9400/url/f/x", "http://a.com:9400/url/f/x"),
            ("/url/fx", "/url/f/url/fx"),
            ("/url/other/x", "/url/other/x"),
            // Other hosts, or the current path.
            ("http://b.com/x", "http://b.com/x"),
            ("http://a.com/x", "http://a.com/x"),
            ("http://a.com:9400@b.com/x", "http://a.com:9400@b.com/x"),
            (
                "http://a.com:9400\\@b.com/x",
                "http://a.com:9400/url/f/\\@b.com/x",
            ),
            ("//b.com/x", "//b.com/x"),
            ("ftp://a.com:9400/x", "ftp://a.com:9400/x"),
            ("mailto:a@a.com", "mailto:a@a.com"),
            ("x", "x"),
            ("?x", "?x"),
            ("", ""),
        ];
        for name in [LOCATION, CONTENT_LOCATION] {
            for (forwarded_prefix, expected) in rows {
                let got = restored("/url/f/a/b", "/a/b", name.clone(), forwarded_prefix);
                assert_eq!(got, expected, "{forwarded_prefix}");
            }
        }
        let refresh = |forwarded_prefix| restored("/url/f/a", "/a", REFRESH, forwarded_prefix);
        assert_eq!(refresh("5; URL=/x"), "5; URL=/url/f/x");
        assert_eq!(refresh("5"), "5");
        assert_eq!(refresh("0;url=http://b.com/"), "0;url=http://b.com/");
    }

    #[test]
    fn dot_segments_do_not_lead_out_of_the_prefix() {
        for (location, expected) in [
            ("/../x", "/url/f/x"),
            ("/../../x?y=../z", "/url/f/x?y=../z"),
            ("/a/../../x/.", "/url/f/x/"),
            ("/..", "/url/f/"),
            ("/%2e%2E/x", "/url/f/x"),
            ("/.%2e/x", "/url/f/x"),
            ("/..\\x", "/url/f/x"),
            ("/..//b.com/x", "/url/f//b.com/x"),
            ("http://a.com:9400/../x", "http://a.com:9400/url/f/x"),
            // A client of the host form resolves these to the same.
            ("/a/../x", "/url/f/a/../x"),
            ("/a/.../x", "/url/f/a/.../x"),
            ("/x?../..", "/url/f/x?../.."),
            // The prefix itself.
            ("/url/f/../x", "/url/f/url/f/../x"),
            ("/url/f/a/../x", "/url/f/a/../x"),
            ("/x/../url/f/y", "/x/../url/f/y"),
            // The request's path is /a/b.
            ("../x", "../x"),
            ("../../x", "/url/f/x"),
            ("../../../x#y", "/url/f/x#y"),
            ("c/../../../x", "/url/f/x"),
        ] {
            let got = restored("/url/f/a/b", "/a/b", LOCATION, location);
            assert_eq!(got, expected, "{location}");
        }
        assert_eq!(restored("/url/f", "/", LOCATION, "../x"), "/url/f/x");
        assert_eq!(restored("/url/f/", "/", LOCATION, "../x"), "/url/f/x");
    }

    #[test]
    fn relative_reference_resolves_below_a_prefix_without_slash() {
        for (forwarded_prefix, expected) in [
            ("x/y", "/url/f/x/y"),
            ("./x", "/url/f/./x"),
            ("/x", "/url/f/x"),
            ("?x", "?x"),
            ("mailto:a@a.com", "mailto:a@a.com"),
        ] {
            assert_eq!(
                restored("/url/f", "/", LOCATION, forwarded_prefix),
                expected,
                "{forwarded_prefix}"
            );
        }
        assert_eq!(restored("/url/f/", "/", LOCATION, "x"), "x");
        assert_eq!(
            restored("/url/s/release/a", "/a", LOCATION, "/x"),
            "/url/s/release/x"
        );
        assert!(Prefix::of(&parts("/a"), "/a").is_none());
    }

    #[test]
    fn forwarded_prefixes_are_joined() {
        let rows: [(&[&str], Option<&str>); 6] = [
            (&[], Some("")),
            (&["/fn/"], Some("/fn")),
            (&["/a, /b", "/c"], Some("/a/b/c")),
            (&["//b.com"], None),
            (&["http://b.com"], None),
            (&["/"], Some("")),
        ];
        for (values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED, HeaderValue::from_str(value).expect("a value"));
            }
            assert_eq!(
                forwarded_prefix(&headers).as_deref(),
                expected,
                "{values:?}"
            );
        }
    }
}
