//! The trace context of a request, as W3C's Trace Context (level 2) defines it.
//!
//! virga records no spans, so it takes no part in a trace: it passes a valid context on unchanged, and makes none where
//! a caller sent none.

use std::fmt;

/// Length of a `traceparent` of version 00.
const PARENT: usize = 55;
/// Longest `tracestate` that is passed on, bytes. W3C asks for at least this much.
const STATE_MAX: usize = 512;
/// Most members of a `tracestate`.
const MEMBERS_MAX: usize = 32;
/// Members longer than this are dropped first from a `tracestate` that is too long.
const LONG_MEMBER: usize = 128;

/// A valid trace context: a request's position in a distributed trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`, then `tracestate`, which may be empty.
    text: String,
}

impl TraceContext {
    /// Builds a context from a caller's headers. Returns `None` without a valid `traceparent`; then `tracestate` means
    /// nothing. An invalid `tracestate` alone is dropped, one over 512 bytes is shortened.
    pub fn parse<'a>(
        traceparent: &str,
        tracestate: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let mut text = parent(traceparent)?;
        if let Some(state) = state(tracestate) {
            text.push_str(&state);
        }
        Some(Self { text })
    }

    /// Returns the value of `traceparent`.
    pub fn traceparent(&self) -> &str {
        self.text.get(..PARENT).unwrap_or_default()
    }

    /// Returns the value of `tracestate`, if there is one.
    pub fn tracestate(&self) -> Option<&str> {
        self.text.get(PARENT..).filter(|state| !state.is_empty())
    }

    /// Parses the text that [`fmt::Display`] makes, for example from a store.
    pub fn read(text: &str) -> Option<Self> {
        let (parent, state) = text.split_once(' ').unwrap_or((text, ""));
        Self::parse(parent, [state])
    }
}

/// `traceparent`, then a space and `tracestate` if there is one.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.traceparent())?;
        match self.tracestate() {
            Some(state) => write!(f, " {state}"),
            None => Ok(()),
        }
    }
}

/// Validates a `traceparent`. One of a later version becomes one of version 00, with the flags that this one knows.
fn parent(given: &str) -> Option<String> {
    let given = given.trim_matches([' ', '\t']);
    let head = given.get(..PARENT)?;
    let mut fields = head.split('-');
    let mut field = |length| {
        let text = fields.next().filter(|text| text.len() == length)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.bytes().all(hex).then_some(text)
    };
    let (version, trace, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    if version == "ff" || is_zero(trace) || is_zero(parent) {
        return None;
    }
    let rest = &given[PARENT..];
    match version {
        "00" => rest.is_empty().then(|| head.to_owned()),
        _ if rest.is_empty() || rest.starts_with('-') => {
            // Sampled, and random trace id.
            let known = u8::from_str_radix(flags, 16).ok()? & 0b11;
            Some(format!("00-{trace}-{parent}-{known:02x}"))
        }
        _ => None,
    }
}

/// Validates and joins the headers of a `tracestate`.
fn state<'a>(given: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut members: Vec<&str> = Vec::new();
    let all = given.into_iter().flat_map(|header| header.split(','));
    for member in all.map(|member| member.trim_matches([' ', '\t'])) {
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        let known = members
            .iter()
            .any(|known| known.split('=').next() == Some(key));
        if known || members.len() == MEMBERS_MAX || !is_key(key) || !is_value(value) {
            return None;
        }
        members.push(member);
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    if length(&members) > STATE_MAX + 1 {
        members.retain(|member| member.len() <= LONG_MEMBER);
    }
    while length(&members) > STATE_MAX + 1 {
        // The last ones are the oldest.
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(","))
}

fn is_key(key: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let starts = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256 && key.as_bytes().first().is_some_and(starts) && key.bytes().all(allowed)
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_contexts_are_kept_as_they_are() {
        let context = TraceContext::parse(PARENT, ["a=1, b@c=\"x\"", "", "d=2 3"]).expect("valid");
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("a=1,b@c=\"x\",d=2 3"));
        assert_eq!(TraceContext::read(&context.to_string()), Some(context));
        let bare = TraceContext::parse(&format!(" {PARENT}\t"), []).expect("valid");
        assert_eq!((bare.traceparent(), bare.tracestate()), (PARENT, None));
        assert_eq!(TraceContext::read(&bare.to_string()), Some(bare));
        let later = format!("cc{}-what-follows", &PARENT[2..]).replace("-01-", "-fd-");
        let later = TraceContext::parse(&later, []).expect("a later version");
        assert_eq!(later.traceparent(), PARENT);
    }

    #[test]
    fn malformed_parents_are_dropped() {
        let upper = PARENT.to_uppercase();
        let long = format!("{PARENT}-01");
        let longer = format!("01{}x", &PARENT[2..]);
        for given in [
            "",
            "00",
            "é".repeat(55).as_str(),
            &PARENT[..54],
            &upper,
            &long,
            &longer,
            &PARENT.replace("00-", "ff-"),
            &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &PARENT.replace("-00f0", "--0f0"),
            &PARENT.replace('-', "_"),
        ] {
            assert_eq!(TraceContext::parse(given, ["a=1"]), None, "{given:?}");
        }
    }

    #[test]
    fn malformed_states_are_dropped_alone_and_long_ones_are_shortened() {
        let many = (0..33)
            .map(|n| format!("k{n}=v"))
            .collect::<Vec<_>>()
            .join(",");
        let big = format!("a={}", "v".repeat(257));
        for given in [
            "a", "A=1", "=1", "a=", "a=1,a=2", "a=b=c", "a=\u{7f}", "é=1", &many, &big,
        ] {
            let context = TraceContext::parse(PARENT, [given]).expect("a valid parent");
            assert_eq!(context.tracestate(), None, "{given:?}");
        }
        let long = format!("first=1,long={},last=2", "v".repeat(200));
        let more = (0..20)
            .map(|n| format!("k{n}={}", "v".repeat(20)))
            .collect::<Vec<_>>();
        let given = format!("{long},{}", more.join(","));
        let context = TraceContext::parse(PARENT, [given.as_str()]).expect("a valid parent");
        let state = context.tracestate().expect("a state");
        assert!(state.len() <= STATE_MAX, "{}", state.len());
        assert!(state.starts_with("first=1,last=2,k0=v"), "{state}");
    }
}
