//! Validation and conversion of function fields.

use std::collections::BTreeMap;

use ::control::text;
use model::{DeadLetter, FunctionKind, InstanceConcurrency, Limits, Namespace, WebConfig};
use scf::Error;
use scf::types as t;
use serde_json::Value;

use super::super::Gateway;
use super::super::error::{self, control};

/// Parses a description.
pub(super) fn description(given: Option<&str>, limits: &Limits) -> Result<String, Error> {
    text::description(given, limits).map_err(control)
}

/// Parses the environment variables, if present. An empty list, or a single variable without a name, clears them.
pub(super) fn environment(
    given: Option<&t::Environment>,
    limits: &Limits,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let Some(variables) = given.and_then(|environment| environment.variables.as_ref()) else {
        return Ok(None);
    };
    let pairs = variables
        .iter()
        .map(|given| (given.key.as_str(), given.value.as_str()));
    let environment = ::control::functions::environment(pairs, limits);
    environment.map(Some).map_err(control)
}

pub(in super::super) fn tags(given: Option<&[t::Tag]>) -> Result<BTreeMap<String, String>, Error> {
    let given = given.unwrap_or_default().iter();
    let pairs = given.map(|tag| (tag.key.clone(), tag.value.clone()));
    text::tags(pairs.collect()).map_err(control)
}

/// Parses whether a function reaches more than virga's own services, if present.
pub(super) fn public_net(given: Option<&Value>) -> Result<Option<bool>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    match &given["PublicNetStatus"] {
        Value::Null => Ok(None),
        Value::String(status) if status == "ENABLE" => Ok(Some(true)),
        Value::String(status) if status == "DISABLE" => Ok(Some(false)),
        other => {
            let message = format!(
                "PublicNetConfig.PublicNetStatus: {other} is not allowed; ENABLE and DISABLE are"
            );
            Err(error::parameter(message))
        }
    }
}

/// Maximum concurrency of an instance of a web function. Source: SCF's range.
const CONCURRENCY_MAX: i64 = 100;
/// Maximum idle time of a WebSocket, seconds. Source: SCF's range.
const WEBSOCKET_IDLE_MAX_S: i64 = 1800;

/// Reads a number in a document. Signature version 1 transmits all values as text.
pub(in super::super) fn number(given: &Value) -> Option<i64> {
    given.as_i64().or_else(|| given.as_str()?.parse().ok())
}

/// Merges the settings of a web function with those in a request.
pub(super) fn web(
    kind: FunctionKind,
    mut web: WebConfig,
    concurrency: Option<&Value>,
    protocol: Option<&str>,
    params: Option<&Value>,
) -> Result<WebConfig, Error> {
    let wrong = |message: String| error::parameter(message);
    let given = concurrency.filter(|given| !given.is_null());
    if kind == FunctionKind::Event {
        if given.is_some_and(|given| given["DynamicEnabled"] != "")
            || protocol.is_some_and(|text| !text.is_empty())
        {
            let message =
                "InstanceConcurrencyConfig and ProtocolType are for web functions (Type HTTP)";
            return Err(wrong(message.into()));
        }
        return Ok(web);
    }
    if let Some(given) = given {
        let dynamic = match given["DynamicEnabled"].as_str() {
            Some("") => None,
            None | Some("FALSE") => Some(false),
            Some("TRUE") => Some(true),
            Some(other) => {
                let message = format!(
                    "InstanceConcurrencyConfig.DynamicEnabled: {other:?} is not allowed; TRUE, FALSE and an empty text are"
                );
                return Err(wrong(message));
            }
        };
        let most = match &given["MaxConcurrency"] {
            Value::Null if dynamic == Some(true) => CONCURRENCY_MAX,
            Value::Null => 1,
            given => number(given).unwrap_or(0),
        };
        if dynamic.is_some() && !(1..=CONCURRENCY_MAX).contains(&most) {
            let message = format!(
                "InstanceConcurrencyConfig.MaxConcurrency: {most} is not allowed; 1 to {CONCURRENCY_MAX} are"
            );
            return Err(wrong(message));
        }
        web.concurrency = dynamic.map(|dynamic| InstanceConcurrency {
            max: most as u32,
            dynamic,
        });
    }
    match protocol {
        None | Some("" | "WS") => {}
        Some(other) => {
            let message = format!("{other:?} is not allowed; WS is");
            return Err(error::wire_field("ProtocolType", message));
        }
    }
    let idle = params.map(|params| &params["WSParams"]["IdleTimeOut"]);
    match idle {
        None | Some(Value::Null) if protocol == Some("WS") && web.websocket_idle.is_none() => {
            web.websocket_idle = Some(15);
        }
        None | Some(Value::Null) => {}
        Some(given) => match number(given) {
            Some(seconds @ 1..=WEBSOCKET_IDLE_MAX_S) => web.websocket_idle = Some(seconds as u32),
            _ => {
                let message = format!(
                    "ProtocolParams.WSParams.IdleTimeOut: {given} is not allowed; 1 to {WEBSOCKET_IDLE_MAX_S} (seconds) are"
                );
                return Err(wrong(message));
            }
        },
    }
    Ok(web)
}

/// Parses the dead-letter target, if present. Empty fields remove it.
pub(super) fn dead_letter(
    gateway: &Gateway,
    given: Option<&Value>,
    own: &Namespace,
) -> Result<Option<Option<DeadLetter>>, Error> {
    let Some(given) = given.filter(|given| !given.is_null()) else {
        return Ok(None);
    };
    let text = |name: &str| given[name].as_str().unwrap_or_default();
    let target = gateway.control.dead_letter(text("Type"), text("Name"), own);
    target.map(Some).map_err(control)
}
