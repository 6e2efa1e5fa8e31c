//! A request as an instance gets it: metadata, then the event; see [`sandbox::wire::Invoke`].

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{InvocationOrigin, RequestId, TraceContext};
use sandbox::wire;
use serde::Deserialize;

use crate::InstanceSpec;

/// The metadata of a request that the caller of an instance knows.
#[derive(Clone, Debug)]
pub struct RequestMetadata {
    /// Request id.
    pub request: RequestId,
    /// Number of earlier attempts.
    pub attempt: u32,
    /// What caused it.
    pub origin: InvocationOrigin,
    /// Its trace context, if the caller sent one.
    pub trace: Option<TraceContext>,
}

/// The metadata of variable length, as a guest reads it: a JSON object. All of it is optional. It also has `function`, the
/// function's resource name as in policies, `version`, and `origin`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedMetadata<'a> {
    #[serde(borrow)]
    pub(crate) traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) tracestate: Option<Cow<'a, str>>,
}

/// The beginning of the metadata, which all requests of an instance share: up to the value of `origin`.
#[derive(Debug)]
pub(crate) struct SharedMetadata(String);

impl SharedMetadata {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        let region = &spec.platform.region;
        let uin = &spec.platform.uin;
        let namespace = &spec.function.namespace;
        let name = &spec.function.name;
        let function = format!("qcs::scf:{region}:uin/{uin}:namespace/{namespace}/function/{name}");
        Self::new(&function, &spec.version.to_string())
    }

    fn new(function: &str, version: &str) -> Self {
        let [function, version] = [function, version].map(serde_json::Value::from);
        Self(format!(
            "{{\"function\":{function},\"version\":{version},\"origin\":\""
        ))
    }

    /// Builds the frame of a request that has `timeout` from now. Without a trace context this allocates nothing but the
    /// frame.
    pub(crate) fn frame(
        &self,
        request: &RequestMetadata,
        sequence: [u8; wire::MARK],
        timeout: Duration,
        event: &[u8],
    ) -> Vec<u8> {
        let deadline = SystemTime::now() + timeout;
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = request.trace.as_ref().map(end);
        let metadata = [
            self.0.as_bytes(),
            request.origin.as_str().as_bytes(),
            end.as_deref().unwrap_or("\"}").as_bytes(),
        ];
        wire::Invoke {
            request: *request.request.as_bytes(),
            sequence,
            deadline_ms: deadline.as_millis() as u64,
            attempt: request.attempt,
            metadata: &[],
            event,
        }
        .frame(&metadata)
    }
}

/// Returns the end of the metadata of a request with a trace context.
fn end(trace: &TraceContext) -> String {
    let parent = trace.traceparent();
    let state = trace.tracestate().map(|state| {
        let state = serde_json::Value::from(state);
        format!(",\"tracestate\":{state}")
    });
    let state = state.unwrap_or_default();
    format!("\",\"traceparent\":\"{parent}\"{state}}}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_guest_reads_the_metadata_that_was_written() {
        let function = "qcs::scf:r:uin/1:namespace/n/function/f";
        let shared = SharedMetadata::new(function, "$LATEST");
        let request = RequestMetadata {
            request: RequestId::from_bytes([9; 16]),
            attempt: 2,
            origin: InvocationOrigin::Trigger(model::TriggerKind::Timer),
            trace: TraceContext::parse(PARENT, ["a=\"quoted\\\""]),
        };
        let frame = shared.frame(&request, [1; wire::MARK], Duration::from_secs(3), b"{}");
        let read = wire::Invoke::parse(&frame[wire::HEADER..]).expect("a request");
        assert_eq!(
            (read.request, read.attempt, read.event),
            ([9; 16], 2, b"{}".as_slice())
        );
        let expected = json!({
            "function": function, "version": "$LATEST", "origin": "timer",
            "traceparent": PARENT, "tracestate": "a=\"quoted\\\"",
        });
        let named: Value = serde_json::from_slice(read.metadata).expect("metadata");
        assert_eq!(named, expected);
        let named: NamedMetadata<'_> = serde_json::from_slice(read.metadata).expect("metadata");
        assert_eq!(named.traceparent.as_deref(), Some(PARENT));
        assert_eq!(named.tracestate.as_deref(), Some("a=\"quoted\\\""));
        let request = RequestMetadata {
            trace: None,
            ..request
        };
        let frame = shared.frame(&request, [1; wire::MARK], Duration::ZERO, b"{}");
        let read = wire::Invoke::parse(&frame[wire::HEADER..]).expect("a request");
        let named: Value = serde_json::from_slice(read.metadata).expect("metadata");
        assert_eq!(named["traceparent"], Value::Null);
        assert_eq!(named["origin"], "timer");
    }
}
