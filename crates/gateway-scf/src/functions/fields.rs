//! Validation and conversion of function fields.

use std::collections::BTreeMap;

use model::{
    DeadLetter, Field, FunctionKind, InstanceConcurrency, Invalid, Limits, Namespace, WebConfig,
};
use scf::types as t;
use scf::{Code, Error};
use serde_json::Value;

use super::super::Gateway;
use super::error;

/// Prefixes of environment variables that SCF reserves.
const RESERVED: &[&str] = &["SCF_", "QCLOUD_", "TENCENTCLOUD_", "TECENTCLOUD_"];
/// Source: SCF's tag limits.
const TAGS_MAX: usize = 50;

/// Parses a description.
pub(in super::super) fn description(given: Option<&str>, limits: &Limits) -> Result<String, Error> {
    control::text::description(given, limits).map_err(error::control)
}

/// Parses the environment variables, if present. An empty list, or a single variable without a name, clears them.
pub(super) fn environment(
    given: Option<&t::Environment>,
    limits: &Limits,
) -> Result<Option<BTreeMap<String, String>>, Error> {
    let Some(variables) = given.and_then(|environment| environment.variables.as_ref()) else {
        return Ok(None);
    };
    let mut environment = BTreeMap::new();
    let mut bytes = 0;
    for t::Variable { key, value } in variables {
        if key.is_empty() && value.is_empty() {
            continue;
        }
        let well_formed = key.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let shown: String = key.chars().take(80).collect();
        if !well_formed {
            let message = format!(
                "Environment: key {shown:?} is not allowed; a letter, then letters, digits and _ are"
            );
            return Err(Error::new(Code::InvalidEnvironment, message));
        }
        if RESERVED.iter().any(|prefix| key.starts_with(prefix)) {
            let message = format!(
                "Environment: key {shown:?} is not allowed; the prefixes {} are reserved",
                RESERVED[..3].join(", ")
            );
            return Err(Error::new(Code::EnvironmentSystemProtect, message));
        }
        if value.contains('\0') {
            let message =
                format!("Environment: the value of {shown:?} contains a NUL byte; remove it");
            return Err(Error::new(Code::InvalidEnvironment, message));
        }
        bytes += key.len() + value.len();
        environment.insert(key.clone(), value.clone());
    }
    if bytes > limits.environment_bytes as usize {
        let message = format!(
            "Environment: {bytes} bytes are not allowed; up to {} are",
            limits.environment_bytes
        );
        return Err(Error::new(Code::EnvironmentExceededLimit, message));
    }
    Ok(Some(environment))
}

pub(in super::super) fn tags(given: Option<&[t::Tag]>) -> Result<BTreeMap<String, String>, Error> {
    let given = given.unwrap_or_default();
    if given.len() > TAGS_MAX
        || given
            .iter()
            .any(|tag| tag.key.is_empty() || tag.key.len() > 127 || tag.value.len() > 255)
    {
        let message = format!(
            "Tags: up to {TAGS_MAX} with keys of 1 to 127 and values of up to 255 bytes are allowed"
        );
        return Err(Error::new(Code::InvalidParameterValue, message));
    }
    Ok(given
        .iter()
        .map(|tag| (tag.key.clone(), tag.value.clone()))
        .collect())
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
            Err(Error::new(Code::InvalidParameterValue, message))
        }
    }
}

/// Maximum concurrency of an instance of a web function. Source: SCF's range.
const CONCURRENCY_MAX: i64 = 100;
/// Maximum idle time of a WebSocket, seconds. Source: SCF's range.
const WEBSOCKET_IDLE_MAX_S: i64 = 1800;

/// Reads a number in a document. Signature version 1 transmits all values as text.
pub(super) fn number(given: &Value) -> Option<i64> {
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
    let wrong = |message: String| Error::new(Code::InvalidParameterValue, message);
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
            let message = format!("ProtocolType: {other:?} is not allowed; WS is");
            return Err(Error::new(Code::InvalidProtocolType, message));
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
    let target = DeadLetter::parse(text("Type"), text("Name"), own).map_err(error::invalid)?;
    match &target {
        Some(target) if !gateway.runner.may_send_to(target) => {
            let allowed = "endpoints in the operator's option dead_letter_endpoints are";
            let refused = Invalid::new(Field::DeadLetter, target.name(), allowed);
            Err(error::invalid(refused))
        }
        _ => Ok(Some(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> t::Environment {
        let variable = |(key, value): &(&str, &str)| t::Variable {
            key: (*key).into(),
            value: (*value).into(),
        };
        t::Environment {
            variables: Some(pairs.iter().map(variable).collect()),
        }
    }

    #[test]
    fn variables_are_checked_by_name_and_size() {
        let limits = Limits {
            environment_bytes: 10,
            ..Limits::default()
        };
        let code =
            |pairs: &[(&str, &str)]| environment(Some(&given(pairs)), &limits).map_err(|e| e.code);
        assert_eq!(
            code(&[("A_1", "x")]).map(|found| found.map(|map| map.len())),
            Ok(Some(1))
        );
        // The tool-kit sends this to clear the list.
        assert_eq!(code(&[("", "")]), Ok(Some(BTreeMap::new())));
        assert_eq!(environment(None, &limits), Ok(None));
        for bad in ["1A", "A-B", "", "\u{e4}"] {
            assert_eq!(code(&[(bad, "x")]), Err(Code::InvalidEnvironment), "{bad}");
        }
        assert_eq!(code(&[("SCF_X", "x")]), Err(Code::EnvironmentSystemProtect));
        assert_eq!(
            code(&[("A", "0123456789")]),
            Err(Code::EnvironmentExceededLimit)
        );
        assert_eq!(code(&[("A", "\0")]), Err(Code::InvalidEnvironment));
    }
}
