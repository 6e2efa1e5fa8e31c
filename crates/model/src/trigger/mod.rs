//! Triggers: event sources that invoke a function.
//!
//! Each kind has a file with the settings of its event source and its [`TriggerDescription`]. All other code looks up there
//! how kinds differ.

mod apigw;
mod cos;
mod description;
mod name;
mod timer;
mod unavailable;
mod url;

use serde::{Deserialize, Serialize};

pub use self::apigw::{ApiMethod, ApiPath, GatewayApi, Stage};
pub use self::cos::{BucketName, ObjectEvent, ObjectEvents};
use self::description::EventSource;
pub use self::description::TriggerDescription;
pub use self::name::TriggerName;
pub use self::timer::Timer;
pub use self::url::{Cors, FunctionUrl, UrlAuth};
use crate::{Field, Invalid, Qualifier, Timestamp};

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
        self.source().0
    }

    /// Returns whether it selects other events than `old` did.
    pub fn changes_source(&self, old: &Self) -> bool {
        let ((kind, new), (old_kind, old)) = (self.source(), old.source());
        kind != old_kind || new.schedule() != old.schedule()
    }

    /// Returns the id by which HTTP requests address a trigger of this name.
    pub(crate) fn http_id<'a>(&'a self, name: &'a TriggerName) -> Option<&'a TriggerName> {
        self.source().1.http_id(name)
    }

    fn source(&self) -> (TriggerKind, &dyn EventSource) {
        match self {
            Self::Apigw(api) => (TriggerKind::Apigw, api),
            Self::Cos(events) => (TriggerKind::Cos, events),
            Self::Http(url) => (TriggerKind::Http, url),
            Self::Timer(timer) => (TriggerKind::Timer, timer),
        }
    }
}

impl Trigger {
    /// Returns whether both are the same trigger: of one kind and name and, if triggers of the kind share names, with one event
    /// source.
    pub fn is_same(&self, other: &Self) -> bool {
        let kind = self.spec.kind();
        let same_name = kind == other.spec.kind() && self.name == other.name;
        same_name && (!kind.description().shares_names || self.spec == other.spec)
    }
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

    /// Returns how it differs from other kinds.
    pub fn description(self) -> &'static TriggerDescription {
        match self {
            Self::Apigw => &apigw::APIGW,
            Self::Ckafka => &unavailable::CKAFKA,
            Self::Cls => &unavailable::CLS,
            Self::Cos => &cos::COS,
            Self::Http => &url::HTTP,
            Self::Timer => &timer::TIMER,
        }
    }

    /// Returns the name of the trigger type.
    pub fn as_str(self) -> &'static str {
        self.description().name
    }

    /// Parses the name of a trigger type.
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

    #[test]
    fn only_a_new_schedule_is_a_new_source() {
        let timer = |cron: &str, message: &str| {
            TriggerSpec::Timer(Timer {
                cron: cron.to_owned(),
                message: message.to_owned(),
            })
        };
        let old = timer("0 0 * * * * *", "a");
        assert!(!timer("0 0 * * * * *", "b").changes_source(&old));
        assert!(timer("0 1 * * * * *", "a").changes_source(&old));
        let url = TriggerSpec::Http(FunctionUrl {
            auth: UrlAuth::Open,
            intranet: true,
            extranet: true,
            cors: None,
        });
        assert!(url.changes_source(&old) && !url.changes_source(&url));
    }
}
