//! Triggers: event sources that invoke a function.

use serde::{Deserialize, Serialize};

use crate::{
    Field, FunctionUrl, GatewayApi, Invalid, ObjectEvents, Qualifier, Timestamp, TriggerName,
};

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
    /// [`Invalid`] for [`Field::TriggerKind`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(Field::TriggerKind, text, format!("{names} are"))
        })
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
