//! Bucket triggers. A trigger's name is its bucket's host, so that a function may have several triggers of one name. Their
//! descriptions distinguish them:
//! `{"bucketUrl":"<host>","event":"cos:ObjectCreated:*","filter":{"Prefix":"","Suffix":""}}`. Clients may leave `bucketUrl` out, and
//! older ones send the event alone.

use control::Error;
use model::{
    BucketName, Field, FunctionKey, Invalid, ObjectEvent, ObjectEvents, Trigger, TriggerName,
    TriggerSpec,
};
use serde::Deserialize;
use serde_json::json;

use super::super::{Gateway, error};
use super::form::{Form, TriggerFields, non_empty, wrong};

/// The form of buckets.
pub(super) struct CosForm;

impl Form for CosForm {
    fn read(
        &self,
        gateway: &Gateway,
        key: &FunctionKey,
        given: &TriggerFields<'_>,
        old: Option<&TriggerSpec>,
    ) -> Result<(TriggerName, TriggerSpec), Error> {
        let name = TriggerName::parse(given.name)?;
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

    fn show(
        &self,
        _gateway: &Gateway,
        _key: &FunctionKey,
        trigger: &Trigger,
    ) -> Option<(String, String)> {
        let TriggerSpec::Cos(events) = &trigger.spec else {
            return None;
        };
        let filter = json!({"Prefix": events.prefix, "Suffix": events.suffix});
        // Clients compare the text, so the field order is SCF's.
        let bucket = trigger.name.as_str();
        let desc = json!({"bucketUrl": bucket, "event": events.event.as_str(), "filter": filter});
        Some((desc.to_string(), String::new()))
    }

    fn describes(&self, trigger: &Trigger, desc: &str) -> Result<Option<bool>, Error> {
        let TriggerSpec::Cos(own) = &trigger.spec else {
            return Ok(None);
        };
        let described = events(trigger.name.as_str(), own.bucket.clone(), desc)?;
        Ok(Some(*own == described))
    }
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
            Err(Invalid::new(Field::TriggerName, name, allowed).into())
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
            serde_json::from_str(desc).map_err(|e| wrong(format!("it is not as expected: {e}")))?
        }
    };
    if let Some(url) = desc.bucket_url.filter(|url| !url.is_empty())
        && url != name
    {
        let shown: String = url.chars().take(100).collect();
        return Err(wrong(format!(
            "bucketUrl: {shown:?} is not allowed; it is the trigger's name, {name}, or left out"
        )));
    }
    let filter = desc.filter.unwrap_or_default();
    let part = |text: Option<String>| text.unwrap_or_default();
    let event = ObjectEvent::parse(&desc.event).map_err(|e| wrong(error::rejection(&e)))?;
    ObjectEvents::new(bucket, event, &part(filter.prefix), &part(filter.suffix))
        .map_err(|e| wrong(error::rejection(&e)))
}
