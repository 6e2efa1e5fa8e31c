//! Access policies of keys and roles, in the syntax of Cloud Access Management (CAM).
//!
//! A statement allows or denies actions on resources. An action is denied unless a statement allows it, and an explicit
//! deny overrides every allow. Conditions, principals and variables are not supported: a policy that contains them is
//! rejected when it is written, so that none is silently ignored during evaluation.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Field, Invalid};

/// Maximum length of a policy (bytes). Source: CAM's limit.
const TEXT_MAX: usize = 6144;
const VERSION: &str = "2.0";

/// A validated policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct Policy(Vec<Statement>);

/// The result of evaluating a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows the action and none denies it.
    Allowed,
    /// A statement denies the action.
    ExplicitDeny,
    /// No statement matches the action.
    ImplicitDeny,
}

/// The resource of an action. Its text form has six parts: `qcs::<service>:<region>:uin/<uin>:<path>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Service, such as `scf`.
    pub service: &'a str,
    /// Region.
    pub region: &'a str,
    /// Uin of the owner.
    pub uin: &'a str,
    /// AppId of the owner, which COS uses in resource names.
    pub app_id: u64,
    /// Path, such as `namespace/default/function/hello`; `*` if the action has no specific resource.
    pub path: &'a str,
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            service,
            region,
            uin,
            app_id,
            path,
        } = self;
        if *service == "cos" {
            write!(f, "qcs::{service}:{region}:uid/{app_id}:{path}")
        } else {
            write!(f, "qcs::{service}:{region}:uin/{uin}:{path}")
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: String,
    #[serde(deserialize_with = "one_or_many")]
    statement: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    effect: Effect,
    #[serde(deserialize_with = "one_or_many")]
    action: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    resource: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Effect {
    Allow,
    Deny,
}

impl Policy {
    /// Parses and validates a policy document.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Policy`], with the fault and its position.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() > TEXT_MAX {
            let allowed = format!("up to {TEXT_MAX} bytes are");
            return Err(Invalid::new(Field::Policy, text, allowed));
        }
        serde_json::from_str(text).map_err(|e| Invalid::new(Field::Policy, text, e.to_string()))
    }

    /// Evaluates the policy for a service's action on a resource. The action may have several names. The resource may belong to
    /// another service: the tag service's actions apply to functions, for example.
    pub fn decide(&self, service: &str, names: &[&str], resource: &Resource<'_>) -> Decision {
        let mut decision = Decision::ImplicitDeny;
        let about = |one: &&Statement| one.is_about(service, names, resource);
        for statement in self.0.iter().filter(about) {
            match statement.effect {
                Effect::Deny => return Decision::ExplicitDeny,
                Effect::Allow => decision = Decision::Allowed,
            }
        }
        decision
    }

    /// Returns whether some statement allows any action of these services on a resource. Ignores deny statements.
    pub fn allows_any_action(&self, services: &[&str], resource: &Resource<'_>) -> bool {
        let of_service = |action: &String| {
            let action = action.strip_prefix("name/").unwrap_or(action);
            let service = action
                .split_once(':')
                .map_or(action, |(service, _)| service);
            services.iter().any(|one| wildcard_match(service, one))
        };
        self.0.iter().any(|one| {
            matches!(one.effect, Effect::Allow)
                && one.action.iter().any(of_service)
                && one.resource.iter().any(|pattern| covers(pattern, resource))
        })
    }

    /// Returns the action patterns and resource patterns of each statement.
    pub fn statements(&self) -> impl Iterator<Item = (&[String], &[String])> {
        self.0
            .iter()
            .map(|one| (one.action.as_slice(), one.resource.as_slice()))
    }
}

impl Statement {
    fn is_about(&self, of: &str, names: &[&str], resource: &Resource<'_>) -> bool {
        let named = |action: &String| {
            // Older policies write `name/scf:Invoke`.
            let action = action.strip_prefix("name/").unwrap_or(action);
            match action.split_once(':') {
                None => action == "*",
                Some((service, name)) => {
                    wildcard_match(service, of)
                        && names.iter().any(|have| wildcard_match(name, have))
                }
            }
        };
        self.action.iter().any(named) && self.resource.iter().any(|one| covers(one, resource))
    }

    fn check(&self) -> Result<(), String> {
        if self.action.is_empty() || self.resource.is_empty() {
            return Err("action and resource must not be empty".into());
        }
        let both = self.action.iter().chain(&self.resource);
        if let Some(text) = both.clone().find(|text| text.contains("${")) {
            return Err(format!(
                "{text:?} contains a variable; policy variables are not supported"
            ));
        }
        let whole = |action: &&String| {
            let action = action.strip_prefix("name/").unwrap_or(action);
            action == "*"
                || action
                    .split_once(':')
                    .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
        };
        if let Some(action) = self.action.iter().find(|action| !whole(action)) {
            return Err(format!(
                "action {action:?} is not allowed; patterns such as \"scf:Invoke\", \"scf:*\" and \"*\" are"
            ));
        }
        match self.resource.iter().find(|text| !is_resource(text)) {
            None => Ok(()),
            Some(text) => Err(format!(
                "resource {text:?} is not allowed; \"*\" and \
                 \"qcs::scf:<region, such as ap-guangzhou, or empty>:uin/<uin>:namespace/<name>/function/<name>\" are; each part may contain *"
            )),
        }
    }
}

impl TryFrom<Document> for Policy {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        if document.version != VERSION {
            let version = document.version;
            return Err(format!(
                "version {version:?} is not allowed; {VERSION:?} is"
            ));
        }
        document.statement.iter().try_for_each(Statement::check)?;
        Ok(Self(document.statement))
    }
}

impl From<Policy> for Document {
    fn from(policy: Policy) -> Self {
        Self {
            version: VERSION.into(),
            statement: policy.0,
        }
    }
}

/// Returns whether a resource pattern is well-formed. Rejecting others avoids patterns that silently never match.
fn is_resource(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let [qcs, _, service, region, owner, path] = parts[..] else {
        return false;
    };
    // CAM's former short region names (`gz`) are not supported.
    let region = region.is_empty() || region.contains(['*', '-']);
    let owner =
        owner.is_empty() || owner == "*" || owner.starts_with("uin/") || owner.starts_with("uid/");
    qcs == "qcs" && !service.is_empty() && region && owner && !path.is_empty()
}

/// A parsed resource pattern. `*` matches any text in each part; an empty region or owner matches all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourcePattern<'a> {
    /// Service, such as `scf`.
    pub service: &'a str,
    region: &'a str,
    owner: &'a str,
    /// Path, such as `namespace/default/function/*`.
    pub path: &'a str,
}

impl<'a> ResourcePattern<'a> {
    /// Parses a pattern of a validated policy. Returns `None` for `*`, which has no parts and matches everything.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text == "*" {
            return None;
        }
        let mut parts = text.splitn(6, ':').skip(2);
        let mut next = || parts.next().unwrap_or_default();
        Some(Self {
            service: next(),
            region: next(),
            owner: next(),
            path: next(),
        })
    }

    /// Returns whether it matches resources in a region.
    pub fn covers_region(&self, region: &str) -> bool {
        self.region.is_empty() || wildcard_match(self.region, region)
    }

    /// Returns whether it matches resources of an account.
    pub fn covers_owner(&self, uin: &str, app_id: u64) -> bool {
        self.owner.is_empty()
            || match self.owner.strip_prefix("uid/") {
                Some(owner) => wildcard_match(owner, &app_id.to_string()),
                None => wildcard_match(self.owner.strip_prefix("uin/").unwrap_or(self.owner), uin),
            }
    }
}

/// Returns whether a resource pattern matches a resource.
fn covers(pattern: &str, resource: &Resource<'_>) -> bool {
    ResourcePattern::parse(pattern).is_none_or(|pattern| {
        wildcard_match(pattern.service, resource.service)
            && pattern.covers_region(resource.region)
            && pattern.covers_owner(resource.uin, resource.app_id)
            && wildcard_match(pattern.path, resource.path)
    })
}

/// Returns whether a text matches a pattern, in which `*` matches any text. Time is bounded by the product of the lengths.
pub fn wildcard_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut to) = (0, 0);
    // Position of the last `*`, and the position in the text up to which it matches.
    let mut star = None;
    while to < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, to));
                at += 1;
            }
            Some(byte) if *byte == text[to] => {
                at += 1;
                to += 1;
            }
            _ => match star {
                None => return false,
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    to = taken + 1;
                }
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Deserializes a list, or a single value as a list of one, as CAM does.
fn one_or_many<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    given: D,
) -> Result<Vec<T>, D::Error> {
    struct Either<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one or a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }

        fn visit_map<A: MapAccess<'de>>(self, one: A) -> Result<Vec<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(one)).map(|one| vec![one])
        }

        fn visit_str<E: serde::de::Error>(self, one: &str) -> Result<Vec<T>, E> {
            T::deserialize(one.into_deserializer()).map(|one| vec![one])
        }
    }

    given.deserialize_any(Either(PhantomData))
}

#[cfg(test)]
mod tests;
