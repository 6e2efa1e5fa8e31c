//! Function URLs. A new URL gets a random id, which replaces the trigger name of the request.

use control::Error;
use hosts::Addresses;
use model::{Cors, FunctionKey, FunctionUrl, Trigger, TriggerName, TriggerSpec, UrlAuth};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Gateway;
use super::form::{Form, TriggerFields, document, flag, wrong};

/// Maximum number of names in a list of a CorsConfig, and maximum length of a name.
const LIST_MAX: usize = 100;
const NAME_MAX: usize = 256;
/// Maximum cache time of a CORS preflight response, seconds: one day.
const AGE_MAX: i64 = 86_400;

/// The form of function URLs.
pub(super) struct HttpForm;

impl Form for HttpForm {
    fn read(
        &self,
        gateway: &Gateway,
        _key: &FunctionKey,
        given: &TriggerFields<'_>,
        old: Option<&TriggerSpec>,
    ) -> Result<(TriggerName, TriggerSpec), Error> {
        let old = match old {
            Some(TriggerSpec::Http(url)) => Some(url),
            _ => None,
        };
        let name = TriggerName::parse(given.name)?;
        let name = match old {
            Some(_) => name,
            None => gateway.control.unused_trigger_id(TriggerName::url_id),
        };
        let desc: Desc = document(given.desc)?;
        Ok((name, TriggerSpec::Http(desc.applied(old)?)))
    }

    fn show(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        trigger: &Trigger,
    ) -> Option<(String, String)> {
        let TriggerSpec::Http(url) = &trigger.spec else {
            return None;
        };
        Some((described(gateway, key, trigger, url), String::new()))
    }
}

fn described(gateway: &Gateway, key: &FunctionKey, trigger: &Trigger, url: &FunctionUrl) -> String {
    let (open, inside) = (
        gateway.addresses.of(key.account, &trigger.name),
        Addresses::inside(&trigger.name),
    );
    let mut net = Map::new();
    net.insert("EnableIntranet".into(), url.intranet.into());
    net.insert("EnableExtranet".into(), url.extranet.into());
    for (on, kind, address) in [
        (url.intranet, "Intranet", &inside),
        (url.extranet, "Extranet", &open),
    ] {
        let shown = if on { address.as_str() } else { "" };
        net.insert(format!("{kind}Url"), shown.into());
        net.insert(format!("{kind}HTTPUrl"), shown.into());
    }
    let auth = match url.auth {
        UrlAuth::Open => "NONE",
        UrlAuth::Signed => "CAM",
    };
    let mut desc = json!({"AuthType": auth, "NetConfig": net});
    if let Some(cors) = &url.cors {
        desc["CorsConfig"] = json!({
            "Enable": true,
            "Origins": cors.origins,
            "Headers": cors.headers,
            "Methods": cors.methods,
            "ExposeHeaders": cors.expose,
            "MaxAge": cors.max_age.unwrap_or_default(),
            "Credentials": cors.credentials,
        });
    }
    desc.to_string()
}

/// A URL's `TriggerDesc`. Unknown fields are ignored, so that a shown description can be sent back.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Desc {
    auth_type: Option<String>,
    net_config: Option<NetConfig>,
    cors_config: Option<CorsConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetConfig {
    enable_intranet: Option<Value>,
    enable_extranet: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct CorsConfig {
    enable: Option<Value>,
    origins: Option<Vec<String>>,
    headers: Option<Vec<String>>,
    methods: Option<Vec<String>>,
    expose_headers: Option<Vec<String>>,
    max_age: Option<i64>,
    credentials: Option<Value>,
}

impl Desc {
    /// Merges the description into the existing URL, or into the default: signed requests from everywhere.
    fn applied(self, old: Option<&FunctionUrl>) -> Result<FunctionUrl, Error> {
        let mut url = old.cloned().unwrap_or(FunctionUrl {
            auth: UrlAuth::Signed,
            intranet: true,
            extranet: true,
            cors: None,
        });
        match self.auth_type.as_deref() {
            None | Some("") => {}
            Some("NONE") => url.auth = UrlAuth::Open,
            Some("CAM") => url.auth = UrlAuth::Signed,
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                return Err(wrong(format!(
                    "AuthType {shown:?} is not allowed; NONE and CAM are"
                )));
            }
        }
        let net = self.net_config.unwrap_or_default();
        for (field, given, on) in [
            ("EnableIntranet", net.enable_intranet, &mut url.intranet),
            ("EnableExtranet", net.enable_extranet, &mut url.extranet),
        ] {
            if let Some(given) = flag(field, given)? {
                *on = given;
            }
        }
        if !url.intranet && !url.extranet {
            return Err(wrong(
                "NetConfig: EnableIntranet or EnableExtranet must be true",
            ));
        }
        if let Some(cors) = self.cors_config {
            url.cors = cors.checked()?;
        }
        Ok(url)
    }
}

impl CorsConfig {
    fn checked(self) -> Result<Option<Cors>, Error> {
        if flag("Enable", self.enable)? != Some(true) {
            return Ok(None);
        }
        let list = |field: &str, given: Option<Vec<String>>| {
            let list = given.unwrap_or_default();
            let fine = |name: &String| {
                !name.is_empty()
                    && name.len() <= NAME_MAX
                    && name.bytes().all(|b| b.is_ascii_graphic())
            };
            if list.len() > LIST_MAX || !list.iter().all(fine) {
                let what = format!(
                    "CorsConfig.{field}: up to {LIST_MAX} names of up to {NAME_MAX} characters are allowed"
                );
                return Err(wrong(what));
            }
            Ok(list)
        };
        let max_age = match self.max_age {
            None => None,
            Some(seconds @ 0..=AGE_MAX) => u32::try_from(seconds).ok(),
            Some(other) => {
                return Err(wrong(format!(
                    "CorsConfig.MaxAge: {other} is not allowed; 0 to {AGE_MAX} (seconds) are"
                )));
            }
        };
        Ok(Some(Cors {
            origins: list("Origins", self.origins)?,
            headers: list("Headers", self.headers)?,
            methods: list("Methods", self.methods)?,
            expose: list("ExposeHeaders", self.expose_headers)?,
            max_age,
            credentials: flag("Credentials", self.credentials)?.unwrap_or(false),
        }))
    }
}
