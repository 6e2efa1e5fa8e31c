//! `Invoke` and `InvokeFunction`.

use bytes::Bytes;
use engine::invoke::{Documents as _, FunctionLookup, Invocation, InvocationResult};
use events::{EventOrigin, NewEvent};
use model::{
    Alias, Blame, FunctionKey, FunctionName, InvocationOrigin, Namespace, Qualifier, RoutingKey,
};
use scf::Error;
use scf::action::{Invoke, InvokeFunction};
use scf::types::{InvokeFunctionRequest, InvokeRequest, InvokeResponse, InvokeResult};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::documents::ScfDocuments;
use super::error::{self, Rejected};
use super::{Caller, Gateway, Serve};

/// Extracts the target fields that both actions have in common.
macro_rules! target_of {
    ($request:ident) => {
        InvokeTarget {
            name: $request.function_name,
            namespace: $request.namespace,
            qualifier: $request.qualifier,
            log_type: $request.log_type,
            routing_key: $request.routing_key,
        }
    };
}

impl Serve for Invoke {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: InvokeRequest,
    ) -> Result<InvokeResponse, Error> {
        let queued = match request.invocation_type.as_deref() {
            None | Some("" | "RequestResponse") => false,
            Some("Event") => true,
            Some(other) => {
                let message = format!("{other:?} is not allowed; RequestResponse and Event are");
                return Err(error::wire_field("InvocationType", message));
            }
        };
        let event = EventArgument {
            field: "ClientContext",
            rejected: Rejected::ClientContext,
            text: request.client_context,
        };
        let target = target_of!(request);
        let target = target.checked(gateway, caller)?;
        let found = gateway.ingest.look_up(&target.function);
        if queued || found.runs_asynchronously() {
            accept(gateway, caller, found, target, event).await
        } else {
            run(gateway, caller, found, target, event).await
        }
    }
}

impl Serve for InvokeFunction {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: InvokeFunctionRequest,
    ) -> Result<InvokeResponse, Error> {
        let event = EventArgument {
            field: "Event",
            rejected: Rejected::Event,
            text: request.event,
        };
        let target = target_of!(request);
        let target = target.checked(gateway, caller)?;
        let found = gateway.ingest.look_up(&target.function);
        if found.runs_asynchronously() {
            accept(gateway, caller, found, target, event).await
        } else {
            run(gateway, caller, found, target, event).await
        }
    }
}

struct InvokeTarget {
    name: String,
    namespace: Option<String>,
    qualifier: Option<String>,
    log_type: Option<String>,
    routing_key: Option<String>,
}

struct EventArgument {
    field: &'static str,
    rejected: Rejected,
    text: Option<String>,
}

/// A target with validated fields.
struct CheckedTarget {
    function: FunctionKey,
    qualifier: Qualifier,
    routing_key: RoutingKey,
    tail: bool,
}

impl InvokeTarget {
    fn checked(self, gateway: &Gateway, caller: Caller<'_>) -> Result<CheckedTarget, Error> {
        let function = FunctionKey {
            account: caller.account,
            namespace: namespace(self.namespace.as_deref())?,
            name: FunctionName::parse(&self.name).map_err(error::invalid)?,
        };
        let qualifier = self.qualifier.as_deref().filter(|text| !text.is_empty());
        let qualifier = qualifier
            .map_or(
                Ok(Qualifier::Alias(Alias::DEFAULT.to_owned())),
                Qualifier::parse,
            )
            .map_err(error::invalid)?;
        let tail = match self.log_type.as_deref() {
            None | Some("" | "None") => false,
            Some("Tail") => true,
            Some(other) => {
                let message = format!("LogType: {other:?} is not allowed; None and Tail are");
                return Err(error::parameter(message));
            }
        };
        Ok(CheckedTarget {
            function,
            qualifier,
            routing_key: routing_key(gateway, self.routing_key.as_deref())?,
            tail,
        })
    }
}

/// Enqueues the event. Responds as soon as it is on stable storage (fsync).
async fn accept(
    gateway: &Gateway,
    caller: Caller<'_>,
    found: FunctionLookup,
    target: CheckedTarget,
    event: EventArgument,
) -> Result<InvokeResponse, Error> {
    let event = NewEvent {
        request: caller.request,
        function: target.function,
        qualifier: target.qualifier,
        routing_key: target.routing_key,
        source: EventOrigin::Api,
        depth: caller.depth,
        trace: caller.trace.cloned(),
        event: event.checked(gateway.limits.async_event_bytes)?,
    };
    let accepted = gateway.ingest.accept(&found, event).await;
    accepted.map_err(error::ingest)?;
    Ok(InvokeResponse {
        result: InvokeResult {
            function_request_id: caller.request.to_string(),
            ..InvokeResult::default()
        },
    })
}

async fn run(
    gateway: &Gateway,
    caller: Caller<'_>,
    found: FunctionLookup,
    target: CheckedTarget,
    event: EventArgument,
) -> Result<InvokeResponse, Error> {
    let invocation = Invocation {
        request: caller.request,
        function: target.function,
        qualifier: target.qualifier,
        routing_key: target.routing_key,
        event: event.checked(gateway.limits.sync_event_bytes)?,
        tail: target.tail,
        retry: 0,
        depth: caller.depth,
        origin: InvocationOrigin::Api,
        trace: caller.trace.cloned(),
    };
    let finished = gateway
        .ingest
        .invoke(found, invocation)
        .await
        .map_err(error::ingest)?;
    Ok(InvokeResponse {
        result: result(caller, finished),
    })
}

impl EventArgument {
    /// Validates the event and returns the JSON document for the function; `{}` if there is none.
    fn checked(self, limit: u64) -> Result<Bytes, Error> {
        let Some(text) = self.text.filter(|text| !text.is_empty()) else {
            return Ok(Bytes::from_static(b"{}"));
        };
        if text.len() as u64 > limit {
            let message = format!(
                "{}: {} bytes are not allowed; up to {limit} are",
                self.field,
                text.len()
            );
            return Err(error::rejected(Rejected::EventSize, message));
        }
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(text.into()),
            Err(e) => Err(error::rejected(
                self.rejected,
                format!("{}: it is not JSON: {e}", self.field),
            )),
        }
    }
}

/// Parses the routing key, by which an alias selects a version.
fn routing_key(gateway: &Gateway, key: Option<&str>) -> Result<RoutingKey, Error> {
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return Ok(RoutingKey::new());
    };
    let limit = gateway.limits.routing_key_bytes as usize;
    if key.len() > limit {
        let message = format!(
            "RoutingKey: {} bytes are not allowed; up to {limit} are",
            key.len()
        );
        return Err(error::parameter(message));
    }
    let pairs: Result<std::collections::BTreeMap<String, Value>, _> = serde_json::from_str(key);
    let pairs = pairs.map_err(|_| {
        error::parameter("RoutingKey: a JSON object, such as {\"User\":\"Bob\"}, is allowed")
    })?;
    // Numbers need not be quoted.
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(pairs
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect())
}

pub(super) fn namespace(given: Option<&str>) -> Result<Namespace, Error> {
    match given.filter(|text| !text.is_empty()) {
        None => Ok(Namespace::default()),
        Some(text) => Namespace::parse(text).map_err(error::invalid),
    }
}

fn result(caller: Caller<'_>, finished: InvocationResult) -> InvokeResult {
    let failure = finished.result.as_ref().err();
    // 0 is success, 1 a fault of the function, -1 any other fault.
    let invoke_result = match failure.map(|failure| failure.kind.blame()) {
        None => 0,
        Some(Blame::Function) => 1,
        Some(Blame::Caller | Blame::Platform) => -1,
    };
    let failed = failure.is_some();
    let answer = match finished.result {
        Ok(answer) => answer.into(),
        Err(failure) => ScfDocuments.failure(&failure, caller.request),
    };
    let answer = match String::from_utf8(answer) {
        Ok(text) => text,
        Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
    };
    let us = finished.usage.duration_us;
    InvokeResult {
        log: finished.log.unwrap_or_default(),
        err_msg: if failed {
            answer.clone()
        } else {
            String::new()
        },
        ret_msg: answer,
        mem_usage: finished.usage.memory_peak as i64,
        duration: us as f64 / 1000.0,
        bill_duration: us.div_ceil(1000) as i64,
        function_request_id: caller.request.to_string(),
        invoke_result,
    }
}
