//! The policy of a form: the constraints that its signer sets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use s3s::post_policy::{PostPolicy, PostPolicyCondition};

use super::fields::{Fields, Signer};
use crate::cos::signature::TOKEN;
use crate::error_response::ErrorResponse;

/// Fields that a policy need not name.
const EXEMPT_FIELDS: [&str; 6] = [
    "awsaccesskeyid",
    "file",
    "policy",
    "signature",
    "submit",
    "x-amz-signature",
];

/// Checks the form against its policy. Returns the allowed range of the file's size.
pub(super) fn check(
    bucket: Option<&str>,
    signer: &Signer,
    fields: &Fields,
    key: &str,
) -> Result<(u64, u64), ErrorResponse> {
    let mut limits = (0, u64::MAX);
    let Some(text) = fields.get("policy") else {
        return Ok(limits);
    };
    let denied = |why: String| ErrorResponse::new(StatusCode::FORBIDDEN, "AccessDenied", why);
    let policy = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let policy = policy.filter(|text| has_valid_expiration(text));
    let policy = policy.and_then(|text| PostPolicy::from_json(&text).ok());
    let policy = policy.ok_or_else(|| {
        let message = "the form's policy is not JSON with an expiration and conditions";
        ErrorResponse::new(StatusCode::BAD_REQUEST, "InvalidPolicyDocument", message)
    })?;
    let now = s3s::dto::Timestamp::from(std::time::SystemTime::now());
    if policy.expiration < now {
        return Err(denied("the form's policy has expired".to_owned()));
    }
    let value = |field: &str| match field {
        "bucket" => bucket.unwrap_or_default().to_owned(),
        "key" => key.to_owned(),
        _ => fields.get(field).cloned().unwrap_or_default(),
    };
    let mut named = Vec::new();
    for condition in &policy.conditions {
        let (field, holds) = match condition {
            PostPolicyCondition::Eq {
                field,
                value: wanted,
            } => (field, value(&field.to_ascii_lowercase()) == *wanted),
            PostPolicyCondition::StartsWith { field, prefix } => (
                field,
                value(&field.to_ascii_lowercase()).starts_with(prefix.as_str()),
            ),
            PostPolicyCondition::ContentLengthRange { min, max } => {
                limits = (*min, *max);
                continue;
            }
        };
        if !holds {
            return Err(denied(format!(
                "the form's policy allows another value of {field}"
            )));
        }
        named.push(field.to_ascii_lowercase());
    }
    let named = |name: &str| named.iter().any(|one| one == name);
    // A policy must constrain the bucket and the key.
    let mut must = vec!["bucket", "key"];
    match signer {
        Signer::Nobody => must.clear(),
        Signer::Cos(_) => must.extend(
            fields
                .keys()
                .map(String::as_str)
                .filter(|name| must_be_named(name)),
        ),
        Signer::S3(_) => must.extend(
            fields
                .keys()
                .map(String::as_str)
                .filter(|name| !EXEMPT_FIELDS.contains(name) && !name.starts_with("x-ignore-")),
        ),
    }
    match must.into_iter().find(|name| !named(name)) {
        Some(name) => Err(denied(format!(
            "the form's policy does not name the field {name}, so its signer has not allowed it"
        ))),
        None => Ok(limits),
    }
}

/// Returns whether the expiration has S3's time format. Other formats could be read as a different time.
fn has_valid_expiration(policy: &str) -> bool {
    let read: Result<serde_json::Value, _> = serde_json::from_str(policy);
    let read = read.ok();
    let expiration = read
        .as_ref()
        .and_then(|policy| policy["expiration"].as_str());
    expiration.is_some_and(|text| {
        text.contains('T') && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
    })
}

/// Returns whether a field in COS's dialect has an effect. COS requires no field to be named; here these must be.
fn must_be_named(name: &str) -> bool {
    name == "acl" || (name != TOKEN && (name.starts_with("x-cos-") || name.starts_with("x-amz-")))
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::Arc;

    use serde_json::json;

    use seeded::Random;

    use super::*;
    use crate::authorizer::Principal;

    fn signer() -> Signer {
        let identity: Arc<dyn Any + Send + Sync> = Arc::new(());
        Signer::S3(Principal {
            key_id: "id".into(),
            app_id: 1,
            depth: 0,
            identity,
        })
    }

    fn with_policy(fields: &Fields, policy: &str) -> Fields {
        let mut fields = fields.clone();
        fields.insert("policy".into(), STANDARD.encode(policy));
        fields
    }

    const NAMES: [&str; 6] = [
        "acl",
        "content-type",
        "success_action_status",
        "x-amz-meta-a",
        "x-amz-storage-class",
        "x-amz-tagging",
    ];

    /// Returns a form and a policy that names all its fields.
    fn form(rng: &mut Random) -> (Fields, serde_json::Value) {
        let mut fields = Fields::new();
        let mut conditions = vec![
            json!({"bucket": "b-1"}),
            json!(["starts-with", "$key", "in/"]),
        ];
        for name in NAMES {
            if rng.one_in(2) {
                continue;
            }
            let value = rng.text(8, "abc $\"\\{}é/");
            conditions.push(match rng.index(3) {
                0 => json!({name: value}),
                1 => json!(["eq", format!("${name}"), value]),
                _ => json!(["starts-with", format!("${name}"), ""]),
            });
            fields.insert(name.to_owned(), value);
        }
        conditions.push(json!(["content-length-range", 1, 9]));
        let policy = json!({"expiration": "2999-01-01T00:00:00Z", "conditions": conditions});
        (fields, policy)
    }

    #[test]
    fn policy_admits_only_matching_forms() {
        let signer = signer();
        for seed in 1..2000 {
            let mut rng = Random::new(seed);
            let (fields, policy) = form(&mut rng);
            let fields = with_policy(&fields, &policy.to_string());
            let check = |fields: &Fields, key: &str| check(Some("b-1"), &signer, fields, key);
            assert_eq!(check(&fields, "in/k"), Ok((1, 9)), "seed {seed}: {policy}");
            assert!(check(&fields, "out/k").is_err(), "seed {seed}");
            assert!(super::check(Some("b-2"), &signer, &fields, "in/k").is_err());
            // A field that the policy does not name.
            let mut more = fields.clone();
            let free = NAMES.iter().find(|name| !fields.contains_key(**name));
            if let Some(free) = free {
                more.insert((*free).to_owned(), "x".into());
                assert!(check(&more, "in/k").is_err(), "seed {seed}: {free}");
            }
        }
    }

    #[test]
    fn mutated_policies_grant_nothing() {
        let signer = signer();
        for seed in 1..5000 {
            let mut rng = Random::new(seed);
            let (fields, policy) = form(&mut rng);
            let text = policy.to_string();
            let changed = rng.mutated(text.as_bytes());
            let mut fields = fields;
            fields.insert("policy".into(), STANDARD.encode(&changed));
            let key = rng.text(6, "in/k$\"");
            if check(Some("b-1"), &signer, &fields, &key).is_ok() {
                // An accepted policy names the bucket and the key.
                let read: serde_json::Value = serde_json::from_slice(&changed).expect("JSON");
                let said = read.to_string();
                assert!(
                    said.contains("bucket") && said.contains("key"),
                    "seed {seed}: {said}"
                );
            }
            let junk = rng.text(40, "abc=+/ \n");
            fields.insert("policy".into(), junk);
            assert!(
                check(Some("b-1"), &signer, &fields, "in/k").is_err(),
                "seed {seed}"
            );
        }
    }
}
