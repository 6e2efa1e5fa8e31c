//! Bucket triggers. A trigger's name is its bucket's host, so that a function may have several triggers of one name. Their
//! descriptions distinguish them:
//! `{"bucketUrl":"<host>","event":"cos:ObjectCreated:*","filter":{"Prefix":"","Suffix":""}}`. Clients may leave `bucketUrl` out, and
//! older ones send the event alone.

use model::{
    BucketName, Field, Function, FunctionKey, Invalid, ObjectEvent, ObjectEvents, Trigger,
    TriggerName, TriggerSpec,
};
use scf::{Code, Error};
use serde::Deserialize;
use serde_json::json;

use super::super::{Gateway, error};
use super::TriggerFields;

pub(super) fn read(
    gateway: &Gateway,
    key: &FunctionKey,
    given: &TriggerFields<'_>,
    old: Option<&TriggerSpec>,
) -> Result<(TriggerName, TriggerSpec), Error> {
    let name = TriggerName::parse(given.name).map_err(error::invalid)?;
    let bucket = bucket(gateway, key, given.name)?;
    let events = match (non_empty(given.desc), old) {
        (Some(desc), _) => events(given.name, bucket, desc)?,
        (None, Some(TriggerSpec::Cos(old))) => old.clone(),
        (None, _) => {
            return Err(wrong(
                r#"a trigger of a bucket needs an event, as {"event":"cos:ObjectCreated:*","filter":{"Prefix":"","Suffix":""}}"#,
            ));
        }
    };
    Ok((name, TriggerSpec::Cos(events)))
}

pub(super) fn described(name: &TriggerName, events: &ObjectEvents) -> String {
    let filter = json!({"Prefix": events.prefix, "Suffix": events.suffix});
    // Clients compare the text, so the field order is SCF's.
    json!({"bucketUrl": name.as_str(), "event": events.event.as_str(), "filter": filter})
        .to_string()
}

/// Returns whether a description matches a trigger.
pub(super) fn matches_desc(trigger: &Trigger, desc: &str) -> Result<bool, Error> {
    match &trigger.spec {
        TriggerSpec::Cos(own) => {
            let described = events(trigger.name.as_str(), own.bucket.clone(), desc)?;
            Ok(*own == described)
        }
        _ => Ok(false),
    }
}

/// Returns the error for a trigger whose events overlap another's. It names that trigger only if the caller may list its function.
pub(super) fn conflict(
    conflict: &catalog::TriggerConflict,
    own: &Function,
    is_shown: bool,
) -> Error {
    let by = match conflict.function == own.key {
        true => "this function".to_owned(),
        false if is_shown => format!(
            "function {} in namespace {}",
            conflict.function.name, conflict.function.namespace
        ),
        false => "another function".to_owned(),
    };
    // The trigger's name is the bucket's, which the caller already knows.
    let message = format!(
        "TriggerDesc: an event of an object is for one trigger alone, and some of these go to {by} already, by its trigger {}; \
         choose another event, Prefix or Suffix, or delete that trigger",
        conflict.trigger
    );
    Error::new(Code::CosInUse, message)
}

pub(super) fn non_empty(desc: Option<&str>) -> Option<&str> {
    desc.map(str::trim).filter(|desc| !desc.is_empty())
}

/// Parses the bucket in a trigger's name. It must belong to the function's account and region.
fn bucket(gateway: &Gateway, key: &FunctionKey, name: &str) -> Result<BucketName, Error> {
    let (owner, region) = (key.account, gateway.region.as_str());
    match BucketName::of_host(name) {
        Some((bucket, of, at)) if of == owner && at == region => Ok(bucket),
        _ => {
            let allowed = format!(
                "the host of a bucket of this account and region is, <bucket>-{owner}.cos.{region}.myqcloud.com"
            );
            let refused = Invalid::new(Field::TriggerName, name, allowed);
            Err(error::invalid(refused))
        }
    }
}

/// A trigger's `TriggerDesc`.
#[derive(Debug, Deserialize)]
struct Desc {
    event: String,
    /// The bucket's host, which must equal the trigger's name.
    #[serde(default, rename = "bucketUrl")]
    bucket_url: Option<String>,
    #[serde(default)]
    filter: Option<Filter>,
}

#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default, rename = "Prefix", alias = "prefix")]
    prefix: Option<String>,
    #[serde(default, rename = "Suffix", alias = "suffix")]
    suffix: Option<String>,
}

fn events(name: &str, bucket: BucketName, desc: &str) -> Result<ObjectEvents, Error> {
    let desc = match desc.starts_with('{') {
        false => Desc {
            event: desc.to_owned(),
            bucket_url: None,
            filter: None,
        },
        true => {
            serde_json::from_str(desc).map_err(|e| wrong(&format!("it is not as expected: {e}")))?
        }
    };
    if let Some(url) = desc.bucket_url.filter(|url| !url.is_empty())
        && url != name
    {
        let shown: String = url.chars().take(100).collect();
        return Err(wrong(&format!(
            "bucketUrl: {shown:?} is not allowed; it is the trigger's name, {name}, or left out"
        )));
    }
    let filter = desc.filter.unwrap_or_default();
    let part = |text: Option<String>| text.unwrap_or_default();
    let event = ObjectEvent::parse(&desc.event).map_err(|e| wrong(&error::rejection(&e)))?;
    ObjectEvents::new(bucket, event, &part(filter.prefix), &part(filter.suffix))
        .map_err(|e| wrong(&error::rejection(&e)))
}

fn wrong(why: &str) -> Error {
    Error::new(Code::InvalidTriggerDesc, format!("TriggerDesc: {why}"))
}
