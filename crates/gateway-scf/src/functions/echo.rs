//! Fields of functions that have no effect here. They are stored and returned, so that clients read back what they set.
//!
//! Stored values have the published form: a flag is `TRUE` or `FALSE`, a document is an object. `show.rs` adds defaults for
//! missing parts.

use std::collections::BTreeMap;

use scf::Error;
use scf::types as t;
use serde_json::{Value, json};

use super::super::code::flag;
use super::super::error;
use super::fields::number;

/// The stored fields by their wire names.
pub(super) type StoredFields = BTreeMap<String, Value>;

/// The stored fields of one request.
#[derive(Debug, Default)]
pub(super) struct Echo(StoredFields);

/// Parts of documents that have an effect; they are stored with the settings that they change.
const EFFECTIVE_PARTS: &[(&str, &[&str])] = &[
    ("DeadLetterConfig", &["Type", "Name"]),
    (
        "InstanceConcurrencyConfig",
        &["DynamicEnabled", "MaxConcurrency"],
    ),
    ("PublicNetConfig", &["PublicNetStatus"]),
];

/// Names of numbers within documents. Signature version 1 transmits them as text.
const NUMBERS: &[&str] = &[
    "MaximumConcurrencySessionPerInstance",
    "MaximumIdleTimeInSeconds",
    "MaximumTTLInSeconds",
    "Num",
];

/// Reads the fields that the create and the update request have in common.
macro_rules! echo_of {
    ($request:ident) => {{
        let mut echo = Self::default();
        for (name, given) in [
            ("VpcConfig", &$request.vpc_config),
            ("CfsConfig", &$request.cfs_config),
            ("IntranetConfig", &$request.intranet_config),
            ("PublicNetConfig", &$request.public_net_config),
            ("DeadLetterConfig", &$request.dead_letter_config),
            (
                "InstanceConcurrencyConfig",
                &$request.instance_concurrency_config,
            ),
        ] {
            echo.document(name, given)?;
        }
        for (name, given) in [
            ("ClsLogsetId", &$request.cls_logset_id),
            ("ClsTopicId", &$request.cls_topic_id),
        ] {
            echo.text(name, given);
        }
        for (name, given) in [
            ("DnsCache", &$request.dns_cache),
            ("InstallDependency", &$request.install_dependency),
            ("L5Enable", &$request.l5_enable),
            ("TraceEnable", &$request.trace_enable),
        ] {
            echo.flag(name, given)?;
        }
        Ok(echo)
    }};
}

impl Echo {
    /// Reads the fields of a create request.
    ///
    /// # Errors
    /// Returns an error for a field without its published form.
    pub(super) fn of_create(request: &t::CreateFunctionRequest) -> Result<Self, Error> {
        echo_of!(request)
    }

    /// Reads the fields of an update request.
    ///
    /// # Errors
    /// Returns an error for a field without its published form.
    pub(super) fn of_update(
        request: &t::UpdateFunctionConfigurationRequest,
    ) -> Result<Self, Error> {
        echo_of!(request)
    }

    /// Merges the fields into the stored ones. An update that does not mention the EIP keeps it.
    pub(super) fn add_to(self, kept: &mut StoredFields) {
        const PUBLIC_NET: &str = "PublicNetConfig";
        const EIP: &str = "EipConfig";
        let before = kept.get(PUBLIC_NET).map(|before| before[EIP].clone());
        kept.extend(self.0);
        if let (Some(before), Some(now)) = (before, kept.get_mut(PUBLIC_NET))
            && now[EIP].is_null()
            && !before.is_null()
        {
            now[EIP] = before;
        }
    }

    fn document(&mut self, name: &'static str, given: &Option<Value>) -> Result<(), Error> {
        let Some(given) = given else {
            return Ok(());
        };
        let Value::Object(parts) = given else {
            let shown: String = given.to_string().chars().take(80).collect();
            return Err(wrong(format!(
                "{name}: {shown} is not allowed; an object is"
            )));
        };
        if name == "PublicNetConfig" {
            check_eip(&given["EipConfig"])?;
        }
        let honoured = EFFECTIVE_PARTS
            .iter()
            .find(|(document, _)| *document == name);
        let honoured = honoured.map_or(&[][..], |(_, parts)| *parts);
        let mut kept = parts.clone();
        kept.retain(|part, _| !honoured.contains(&part.as_str()));
        let mut kept = Value::Object(kept);
        read_numbers(&mut kept);
        self.0.insert(name.to_owned(), kept);
        Ok(())
    }

    fn text(&mut self, name: &'static str, given: &Option<String>) {
        if let Some(given) = given {
            self.0.insert(name.to_owned(), json!(given));
        }
    }

    fn flag(&mut self, name: &'static str, given: &Option<String>) -> Result<(), Error> {
        if let Some(given) = given.as_deref().filter(|given| !given.is_empty()) {
            let shown = if flag(name, Some(given))? {
                "TRUE"
            } else {
                "FALSE"
            };
            self.0.insert(name.to_owned(), json!(shown));
        }
        Ok(())
    }
}

/// Converts numbers in text form to numbers, so that they are returned with their published type.
fn read_numbers(document: &mut Value) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(read_numbers),
        Value::Object(parts) => {
            for (name, part) in parts {
                match number(part).filter(|_| NUMBERS.contains(&name.as_str())) {
                    Some(number) => *part = json!(number),
                    None => read_numbers(part),
                }
            }
        }
        _ => {}
    }
}

fn check_eip(eip: &Value) -> Result<(), Error> {
    match &eip["EipStatus"] {
        Value::Null => Ok(()),
        Value::String(status) if matches!(status.as_str(), "" | "ENABLE" | "DISABLE") => Ok(()),
        other => {
            let shown: String = other.to_string().chars().take(80).collect();
            Err(wrong(format!(
                "PublicNetConfig.EipConfig.EipStatus: {shown} is not allowed; ENABLE and DISABLE are"
            )))
        }
    }
}

fn wrong(message: String) -> Error {
    error::parameter(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(fields: Value) -> Result<StoredFields, Error> {
        let mut kept = StoredFields::new();
        let request = serde_json::from_value(fields).expect("a request");
        Echo::of_update(&request)?.add_to(&mut kept);
        Ok(kept)
    }

    #[test]
    fn update_keeps_an_unmentioned_eip() {
        let eip = json!({"EipStatus": "ENABLE"});
        let mut kept = update(json!({
            "FunctionName": "f",
            "PublicNetConfig": {"PublicNetStatus": "ENABLE", "EipConfig": eip},
        }))
        .expect("taken");
        let request =
            json!({"FunctionName": "f", "PublicNetConfig": {"PublicNetStatus": "DISABLE"}});
        let request = serde_json::from_value(request).expect("a request");
        Echo::of_update(&request).expect("taken").add_to(&mut kept);
        assert_eq!(kept["PublicNetConfig"], json!({"EipConfig": eip}));
    }

    #[test]
    fn malformed_stored_fields_are_rejected_by_name() {
        for (field, value) in [
            ("VpcConfig", json!(5)),
            ("CfsConfig", json!([])),
            ("IntranetConfig", json!("ENABLE")),
            (
                "PublicNetConfig",
                json!({"EipConfig": {"EipStatus": "TRUE"}}),
            ),
            ("TraceEnable", json!("maybe")),
            ("L5Enable", json!("1")),
            ("DnsCache", json!("on")),
        ] {
            let refused = update(json!({"FunctionName": "f", field: value})).expect_err(field);
            assert!(refused.message.starts_with(field), "{refused}");
        }
        let kept = update(json!({"FunctionName": "f", "TraceEnable": "true", "DnsCache": ""}));
        let expected = StoredFields::from([("TraceEnable".to_owned(), json!("TRUE"))]);
        assert_eq!(kept, Ok(expected));
    }
}
