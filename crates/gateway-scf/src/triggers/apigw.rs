//! API gateway triggers. Each trigger has its own service, which is created with it.

use control::{Error, random};
use model::{
    ApiMethod, ApiPath, FunctionKey, FunctionKind, GatewayApi, Invalid, Stage, Trigger,
    TriggerName, TriggerSpec,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Gateway;
use super::super::error;
use super::form::{Form, TriggerFields, document, flag, unavailable, wrong};

/// Default name and type of a service. Source: requests of SCF's clients.
const SERVICE_NAME: &str = "SCF_API_SERVICE";
const SERVICE_TYPE: &str = "BASIC";
/// Maximum length of a service name.
const NAME_MAX: usize = 50;

/// The form of the API gateway.
pub(super) struct ApigwForm;

impl Form for ApigwForm {
    fn read(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        given: &TriggerFields<'_>,
        old: Option<&TriggerSpec>,
    ) -> Result<(TriggerName, TriggerSpec), Error> {
        let name = TriggerName::parse_plain(given.name)?;
        let desc: Desc = document(given.desc)?;
        let old = match old {
            Some(TriggerSpec::Apigw(api)) => api.clone(),
            _ => default_api(gateway, key)?,
        };
        Ok((name, TriggerSpec::Apigw(desc.applied(old)?)))
    }

    fn show(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        trigger: &Trigger,
    ) -> Option<(String, String)> {
        let TriggerSpec::Apigw(api) = &trigger.spec else {
            return None;
        };
        Some((described(gateway, key, api), String::new()))
    }
}

fn described(gateway: &Gateway, key: &FunctionKey, api: &GatewayApi) -> String {
    let flag_text = |flag: bool| if flag { "TRUE" } else { "FALSE" };
    json!({
        "api": {
            "apiId": api.id,
            "authRequired": flag_text(api.signed),
            "authType": if api.signed { SIGNED } else { OPEN },
            "enableCORS": flag_text(api.cors),
            "IsBase64Encoded": flag_text(api.base64),
            "isIntegratedResponse": flag_text(api.integrated),
            "requestConfig": {"method": api.method.as_str(), "path": api.path.as_str()},
        },
        "release": {"environmentName": api.stage.as_str()},
        "service": {
            "serviceId": api.service.as_str(),
            "serviceName": api.service_name,
            "serviceType": api.service_type,
            "subDomain": gateway.addresses.of_api(key.account, api),
        },
    })
    .to_string()
}

/// Returns the default API: the path `/<function>`, or all paths for a web function.
fn default_api(gateway: &Gateway, key: &FunctionKey) -> Result<GatewayApi, Error> {
    let function = gateway.catalog.function(key);
    let path = match function {
        Some(stored) if stored.value.kind == FunctionKind::Http => "/".to_owned(),
        _ => format!("/{}", key.name),
    };
    Ok(GatewayApi {
        service: gateway.control.unused_trigger_id(TriggerName::service_id),
        service_name: SERVICE_NAME.to_owned(),
        service_type: SERVICE_TYPE.to_owned(),
        id: GatewayApi::fresh_id(random()),
        method: ApiMethod::Any,
        path: ApiPath::parse(&path).map_err(invalid_field)?,
        stage: Stage::Release,
        signed: false,
        integrated: false,
        base64: false,
        cors: false,
    })
}

/// An API's `TriggerDesc`. Unknown fields are ignored, so that a shown description can be sent back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Desc {
    api: Api,
    service: Service,
    release: Release,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Api {
    auth_required: Option<Value>,
    auth_type: Option<String>,
    request_config: RequestConfig,
    is_integrated_response: Option<Value>,
    #[serde(rename = "IsBase64Encoded", alias = "isBase64Encoded")]
    is_base64_encoded: Option<Value>,
    #[serde(rename = "enableCORS")]
    enable_cors: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RequestConfig {
    method: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Service {
    service_id: Option<String>,
    service_name: Option<String>,
    service_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Release {
    environment_name: Option<String>,
}

const OPEN: &str = "NONE";
const SIGNED: &str = "SECRET";

impl Desc {
    /// Merges the description into the existing API.
    fn applied(self, old: GatewayApi) -> Result<GatewayApi, Error> {
        let mut new = old;
        let service = self.service;
        if non_empty(&service.service_id).is_some_and(|id| id != new.service.as_str()) {
            return Err(unavailable(
                "service.serviceId: a trigger has a service of its own here, which is made with it; leave it out",
            ));
        }
        for (field, given, kept) in [
            ("serviceName", service.service_name, &mut new.service_name),
            ("serviceType", service.service_type, &mut new.service_type),
        ] {
            if let Some(given) = non_empty(&given) {
                *kept = checked_name(field, given)?;
            }
        }
        let api = self.api;
        // `authType` is more specific than `authRequired` and takes precedence.
        if let Some(signed) = flag("api.authRequired", api.auth_required)? {
            new.signed = signed;
        }
        match non_empty(&api.auth_type) {
            None => {}
            Some(OPEN) => new.signed = false,
            Some(SIGNED) => new.signed = true,
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                return Err(unavailable(format!(
                    "api.authType: {shown:?} is not available; {OPEN} and {SIGNED} (key pairs) are"
                )));
            }
        }
        for (field, given, on) in [
            (
                "api.isIntegratedResponse",
                api.is_integrated_response,
                &mut new.integrated,
            ),
            (
                "api.IsBase64Encoded",
                api.is_base64_encoded,
                &mut new.base64,
            ),
            ("api.enableCORS", api.enable_cors, &mut new.cors),
        ] {
            if let Some(given) = flag(field, given)? {
                *on = given;
            }
        }
        if let Some(method) = non_empty(&api.request_config.method) {
            new.method = ApiMethod::parse(method).map_err(invalid_field)?;
        }
        if let Some(path) = non_empty(&api.request_config.path) {
            new.path = ApiPath::parse(path).map_err(invalid_field)?;
        }
        if let Some(stage) = non_empty(&self.release.environment_name) {
            new.stage = Stage::parse(stage).map_err(invalid_field)?;
        }
        Ok(new)
    }
}

fn non_empty(given: &Option<String>) -> Option<&str> {
    given.as_deref().filter(|text| !text.is_empty())
}

fn checked_name(field: &str, given: &str) -> Result<String, Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if given.len() <= NAME_MAX && given.bytes().all(allowed) {
        return Ok(given.to_owned());
    }
    Err(wrong(format!(
        "service.{field}: up to {NAME_MAX} letters, digits, '-' and '_' are allowed"
    )))
}

fn invalid_field(invalid: Invalid) -> Error {
    wrong(error::refusal(error::wire_name(invalid.field), &invalid))
}
