//! The trace context of HTTP requests: W3C's headers `traceparent` and `tracestate`.

use http::HeaderMap;
use model::TraceContext;

/// The header of the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// The header of vendors' own data.
pub const TRACESTATE: &str = "tracestate";

/// Returns the context that a caller sent, if it is valid. Two `traceparent` headers are not.
pub fn of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let states = headers.get_all(TRACESTATE).iter();
    // A value that is no text makes the state invalid.
    TraceContext::parse(
        parent,
        states.map(|value| value.to_str().unwrap_or("invalid")),
    )
}

/// Returns the headers of a context.
pub fn headers(trace: Option<&TraceContext>) -> impl Iterator<Item = (&'static str, &str)> {
    let parent = trace.map(|trace| (TRACEPARENT, trace.traceparent()));
    let state = trace.and_then(|trace| Some((TRACESTATE, trace.tracestate()?)));
    parent.into_iter().chain(state)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn read(given: &[(&'static str, &[u8])]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        of(&headers)
    }

    #[test]
    fn headers_of_a_context_are_read_and_written() {
        let parent = (TRACEPARENT, PARENT.as_bytes());
        let trace = read(&[parent, (TRACESTATE, b"a=1"), (TRACESTATE, b"b=2")]);
        let written: Vec<_> = headers(trace.as_ref()).collect();
        assert_eq!(written, [(TRACEPARENT, PARENT), (TRACESTATE, "a=1,b=2")]);
        assert_eq!(read(&[parent, parent]), None);
        assert_eq!(read(&[(TRACESTATE, b"a=1")]), None);
        let stateless = read(&[parent, (TRACESTATE, b"a=\xff")]).expect("a valid parent");
        assert_eq!(stateless.tracestate(), None);
        assert_eq!(headers(None).count(), 0);
    }
}
