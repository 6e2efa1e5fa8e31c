//! Triggers: what runs a function, beside calls of the API.

use serde::{Deserialize, Serialize};

use crate::names::text;
use crate::{Function, FunctionUrl, GatewayApi, Invalid, ObjectEvents, Qualifier, Timestamp};

/// A source of events for a function. It is part of the function's record, so the two cannot part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// Its name.
    pub name: TriggerName,
    /// The version or alias that its events are for.
    pub qualifier: Qualifier,
    /// Whether it runs the function.
    pub enabled: bool,
    /// Since when it does, as it is: when it was made or last opened, or what it waits for was changed.
    pub since: Timestamp,
    /// For people.
    pub description: String,
    /// What it waits for.
    pub spec: TriggerSpec,
    /// When it was made.
    pub added: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
}

/// What a trigger waits for, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TriggerSpec {
    /// A request to an API of the API gateway.
    Apigw(GatewayApi),
    /// Events of a bucket, whose host is the trigger's name.
    Cos(ObjectEvents),
    /// A request to a function's URL, whose id is the trigger's name.
    Http(FunctionUrl),
    /// A time.
    Timer(Timer),
}

impl TriggerSpec {
    /// Its kind.
    pub fn kind(&self) -> TriggerKind {
        match self {
            Self::Apigw(_) => TriggerKind::Apigw,
            Self::Cos(_) => TriggerKind::Cos,
            Self::Http(_) => TriggerKind::Http,
            Self::Timer(_) => TriggerKind::Timer,
        }
    }

    /// Whether it is not for the same events that another one waits.
    pub fn waits_for_other_than(&self, old: &Self) -> bool {
        match (self, old) {
            (Self::Timer(new), Self::Timer(old)) => new.cron != old.cron,
            (new, old) => new.kind() != old.kind(),
        }
    }
}

/// When a timer is due, and what it says then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The cron expression as it was given.
    pub cron: String,
    /// What each of its events says.
    pub message: String,
}

/// The kinds of triggers that the API knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TriggerKind {
    /// An API of the API gateway.
    Apigw,
    /// A topic of CKafka.
    Ckafka,
    /// A topic of the log service.
    Cls,
    /// A bucket.
    Cos,
    /// A function's URL.
    Http,
    /// The time.
    Timer,
}

impl TriggerKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Apigw,
        Self::Ckafka,
        Self::Cls,
        Self::Cos,
        Self::Http,
        Self::Timer,
    ];

    /// SCF's name of the kind.
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

    /// Reads SCF's name.
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

/// A trigger's name: 1 to 100 letters, digits, `-`, `_` and, for kinds whose triggers have the names of hosts, `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerName(String);
text!(TriggerName);

/// What names may be.
const NAMES: &str = "1 to 100 letters, digits, '-' and '_' are";

impl TriggerName {
    /// Checks and keeps a name.
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

    /// The same, where names are no hosts.
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
    /// The id of a function's URL from ten characters' worth of randomness.
    pub fn url_id(random: u64) -> Self {
        Self(characters(random, 10))
    }

    /// The id of a service of the API gateway from eight characters' worth of randomness.
    pub fn service_id(random: u64) -> Self {
        Self(format!("{SERVICE}{}", characters(random, 8)))
    }
}

/// What ids of services begin with.
const SERVICE: &str = "service-";

/// So many characters, each from five bits.
pub(crate) fn characters(random: u64, count: u32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letter = |i: u32| char::from(ALPHABET[((random >> (i * 5)) & 31) as usize]);
    (0..count).map(letter).collect()
}

impl Function {
    /// One of its APIs, by its service's id.
    pub fn api(&self, service: &str) -> Option<(&Trigger, &GatewayApi)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Apigw(api) if api.service.as_str() == service => Some((trigger, api)),
                _ => None,
            })
    }

    /// The ids that requests by HTTP find its triggers by: those of its URLs and of its APIs' services.
    pub fn http_ids(&self) -> impl Iterator<Item = &TriggerName> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.spec {
                TriggerSpec::Http(_) => Some(&trigger.name),
                TriggerSpec::Apigw(api) => Some(&api.service),
                TriggerSpec::Cos(_) | TriggerSpec::Timer(_) => None,
            })
    }

    /// One of its URLs, by its id.
    pub fn url(&self, id: &str) -> Option<(&Trigger, &FunctionUrl)> {
        self.triggers
            .iter()
            .find_map(|trigger| match &trigger.spec {
                TriggerSpec::Http(url) if trigger.name.as_str() == id => Some((trigger, url)),
                _ => None,
            })
    }

    /// Its triggers of buckets, with what they wait for.
    pub fn bucket_triggers(&self) -> impl Iterator<Item = (&Trigger, &ObjectEvents)> {
        self.triggers
            .iter()
            .filter_map(|trigger| match &trigger.spec {
                TriggerSpec::Cos(events) => Some((trigger, events)),
                _ => None,
            })
    }

    /// Its triggers of a kind.
    pub fn triggers_of(&self, kind: TriggerKind) -> impl Iterator<Item = &Trigger> {
        let of_kind = move |trigger: &&Trigger| trigger.spec.kind() == kind;
        self.triggers.iter().filter(of_kind)
    }

    /// Whether there is such a version or alias.
    pub fn knows(&self, qualifier: &Qualifier) -> bool {
        match qualifier {
            Qualifier::Latest => true,
            Qualifier::Version(number) => self.versions.contains_key(number),
            Qualifier::Alias(name) => self.alias(name).is_some(),
        }
    }

    /// The names of the triggers whose events a version or alias serves.
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
    fn names_and_kinds_are_checked() {
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
