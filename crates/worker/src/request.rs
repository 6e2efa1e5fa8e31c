//! A request as an instance gets it: metadata, then the event; see [`sandbox::wire::Invoke`].

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{InvocationOrigin, RequestId, TraceContext};
use sandbox::wire;
use serde::{Deserialize, Serialize};

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

/// The metadata of variable length, a JSON object in the frame. All of it is optional for a guest.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NamedMetadata<'a> {
    /// The function's resource name, as in policies.
    #[serde(borrow)]
    pub(crate) function: Cow<'a, str>,
    /// Its version: `$LATEST` or a number.
    #[serde(borrow)]
    pub(crate) version: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) origin: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) tracestate: Option<Cow<'a, str>>,
}

/// The name of a function and its version, which all requests of an instance share.
#[derive(Debug)]
pub(crate) struct FunctionIdentity {
    function: String,
    version: String,
}

impl FunctionIdentity {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        let region = &spec.platform.region;
        let uin = &spec.platform.uin;
        let namespace = &spec.function.namespace;
        let name = &spec.function.name;
        Self {
            function: format!("qcs::scf:{region}:uin/{uin}:namespace/{namespace}/function/{name}"),
            version: spec.version.to_string(),
        }
    }

    /// Builds the frame of a request that has `timeout` from now.
    pub(crate) fn frame(
        &self,
        request: &RequestMetadata,
        sequence: [u8; wire::MARK],
        timeout: Duration,
        event: &[u8],
    ) -> Vec<u8> {
        let trace = request.trace.as_ref();
        let named = NamedMetadata {
            function: self.function.as_str().into(),
            version: self.version.as_str().into(),
            origin: request.origin.as_str().into(),
            traceparent: trace.map(|trace| trace.traceparent().into()),
            tracestate: trace.and_then(|trace| trace.tracestate()).map(Cow::from),
        };
        let deadline = SystemTime::now() + timeout;
        let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default();
        wire::Invoke {
            request: *request.request.as_bytes(),
            sequence,
            deadline_ms: deadline.as_millis() as u64,
            attempt: request.attempt,
            metadata: &serde_json::to_vec(&named).unwrap_or_default(),
            event,
        }
        .frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_guest_reads_the_metadata_that_was_written() {
        let identity = FunctionIdentity {
            function: "qcs::scf:r:uin/1:namespace/n/function/f".into(),
            version: "$LATEST".into(),
        };
        let request = RequestMetadata {
            request: RequestId::from_bytes([9; 16]),
            attempt: 2,
            origin: InvocationOrigin::Timer,
            trace: TraceContext::parse(PARENT, ["a=\"quoted\\\""]),
        };
        let frame = identity.frame(&request, [1; wire::MARK], Duration::from_secs(3), b"{}");
        let read = wire::Invoke::parse(&frame[wire::HEADER..]).expect("a request");
        assert_eq!(
            (read.request, read.attempt, read.event),
            ([9; 16], 2, b"{}".as_slice())
        );
        let named: NamedMetadata<'_> = serde_json::from_slice(read.metadata).expect("metadata");
        assert_eq!(named.function, identity.function);
        assert_eq!((&*named.version, &*named.origin), ("$LATEST", "timer"));
        assert_eq!(named.traceparent.as_deref(), Some(PARENT));
        assert_eq!(named.tracestate.as_deref(), Some("a=\"quoted\\\""));
    }
}
