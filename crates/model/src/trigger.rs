//! Triggers: event sources that invoke a function.

use serde::{Deserialize, Serialize};

use crate::names::text;
use crate::{Function, FunctionUrl, GatewayApi, Invalid, ObjectEvents, Qualifier, Timestamp};

/// An event source of a function. It is stored in the function's record, so the two cannot become inconsistent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Name.
    pub name: TriggerName,
    /// Version or alias that it invokes.
    pub qualifier: Qualifier,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Start of validity: events before this time are ignored. Set at creation, on enabling, and when the event source changes.
    pub since: Timestamp,
    /// Free-form description.
    pub description: String,
    /// Event source settings.
    pub spec: TriggerSpec,
    /// Creation time.
    pub added: Timestamp,
    /// Last modification time.
    pub modified: Timestamp,
}

/// The event source of a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TriggerSpec {
    /// Requests to an API of the API gateway.
    Apigw(GatewayApi),
    /// Object events of a bucket. The trigger name is the bucket's host name.
    Cos(ObjectEvents),
    /// Requests to a function URL. The trigger name is the URL's id.
    Http(FunctionUrl),
    /// A cron schedule.
    Timer(Timer),
}

impl TriggerSpec {
    /// Kind.
    pub fn kind(&self) -> TriggerKind {
        match self {
            Self::Apigw(_) => TriggerKind::Apigw,
            Self::Cos(_) => TriggerKind::Cos,
            Self::Http(_) => TriggerKind::Http,
            Self::Timer(_) => TriggerKind::Timer,
        }
    }

    /// Returns whether it selects other events than `old` did.
    pub fn changes_source(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Timer(new), Self::Timer(old)) => new.cron != old.cron,
            (new, old) => new.kind() != old.kind(),
        }
    }
}

/// The schedule and message of a timer trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Cron expression as given.
    pub cron: String,
    /// Message in each event.
    pub message: String,
}

/// The trigger types of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TriggerKind {
    /// An API of the API gateway.
    Apigw,
    /// A CKafka topic.
    Ckafka,
    /// A topic of the log service (CLS).
    Cls,
    /// A bucket (COS).
    Cos,
    /// A function URL.
    Http,
    /// A timer.
    Timer,
}

impl TriggerKind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Apigw,
        Self::Ckafka,
        Self::Cls,
        Self::Cos,
        Self::Http,
        Self::Timer,
    ];

    /// Returns the SCF name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apigw => "apigw",
            Self::Ckafka => "ckafka",
            Self::Cls => "cls",
            Self::Cos => "cos",
            Self::Http => "http",
            Self::Timer => "timer",
        }
    }

    /// Parses the SCF name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Type`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new("Type", text, format!("{names} are"))
        })
    }
}

/// A trigger name: 1 to 100 letters, digits, `-` and `_`. Names that are host names may contain `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerName(String);
text!(TriggerName);

/// Description of the allowed names.
const NAMES: &str = "1 to 100 letters, digits, '-' and '_' are";

impl TriggerName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `TriggerName`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=100).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("TriggerName", text, NAMES))
        }
    }

    /// Parses a name that is not a host name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `TriggerName`.
    pub fn parse_plain(text: &str) -> Result<Self, Invalid> {
        match Self::parse(text) {
            Ok(name) if !text.contains('.') => Ok(name),
            _ => Err(Invalid::new("TriggerName", text, NAMES)),
        }
    }
}

impl TriggerName {
    /// Generates the id of a function URL from 50 random bits.
    pub fn url_id(random: u64) -> Self {
        Self(characters(random, 10))
    }

    /// Generates the id of an API gateway service from 40 random bits.
    pub fn service_id(random: u64) -> Self {
        Self(format!("{SERVICE}{}", characters(random, 8)))
    }
}

/// Prefix of service ids.
const SERVICE: &str = "service-";

/// Encodes random bits as `count` characters of five bits each.
pub(crate) fn characters(random: u64, count: u32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letter = |i: u32| char::from(ALPHABET[((random >> (i * 5)) & 31) as usize]);
    (0..count).map(letter).collect()
}

impl Function {
    /// Finds an API by its service id.
    pub fn api(&self, service: &str) -> Option<(&Trigger, &GatewayApi)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Apigw(api) if api.service.as_str() == service => Some((trigger, api)),
                _ => None,
            })
    }

    /// Returns the ids by which HTTP requests address its triggers: URL ids and API service ids.
    pub fn http_ids(&self) -> impl Iterator<Item = &TriggerName> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.spec {
                TriggerSpec::Http(_) => Some(&trigger.name),
                TriggerSpec::Apigw(api) => Some(&api.service),
                TriggerSpec::Cos(_) | TriggerSpec::Timer(_) => None,
            })
    }

    /// Finds a function URL by its id.
    pub fn url(&self, id: &str) -> Option<(&Trigger, &FunctionUrl)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Http(url) if trigger.name.as_str() == id => Some((trigger, url)),
                _ => None,
            })
    }

    /// Returns its bucket triggers with their event filters.
    pub fn bucket_triggers(&self) -> impl Iterator<Item = (&Trigger, &ObjectEvents)> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.spec {
                TriggerSpec::Cos(events) => Some((trigger, events)),
                _ => None,
            })
    }

    /// Returns its triggers of one kind.
    pub fn triggers_of(&self, kind: TriggerKind) -> impl Iterator<Item = &Trigger> {
        let of_kind = move |trigger: &&Trigger| trigger.spec.kind() == kind;
        self.triggers.iter().filter(of_kind)
    }

    /// Returns whether the version or alias exists.
    pub fn has_qualifier(&self, qualifier: &Qualifier) -> bool {
        match qualifier {
            Qualifier::Latest => true,
            Qualifier::Version(number) => self.versions.contains_key(number),
            Qualifier::Alias(name) => self.alias(name).is_some(),
        }
    }

    /// Returns the names of the triggers that invoke a version or alias.
    pub fn triggers_on(&self, qualifier: &Qualifier) -> Vec<&str> {
        let bound = self
            .triggers
            .iter()
            .filter(|trigger| trigger.qualifier == *qualifier);
        bound.map(|trigger| trigger.name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_and_kinds_are_rejected() {
        let host = "b-1250000000.cos.ap-guangzhou.myqcloud.com";
        for good in ["a", "Every-5_min", "5", host, &"a".repeat(100)] {
            assert!(TriggerName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "é", "a/b", &"a".repeat(101)] {
            assert!(TriggerName::parse(bad).is_err(), "{bad}");
        }
        for kind in TriggerKind::ALL {
            assert_eq!(TriggerKind::parse(kind.as_str()), Ok(kind));
        }
        for bad in ["", "Timer", "cmq"] {
            assert!(TriggerKind::parse(bad).is_err(), "{bad}");
        }
    }
}
