//! An event in all its forms.

use bytes::Bytes;
use dispatch::Time;
use model::{
    AccountId, DeadLetter, FunctionKey, FunctionName, Namespace, Qualifier, RequestId, RoutingKey,
};

use crate::call_chains::RecursionDepth;

/// What an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventOrigin {
    /// `Invoke` with InvocationType Event, or of a function that always runs asynchronously.
    Api,
    /// A change of an object in a bucket.
    Cos,
    /// A timer.
    Timer,
    /// Another function's event that was given up.
    DeadLetter,
}

impl EventOrigin {
    const ALL: &[Self] = &[Self::Api, Self::Cos, Self::Timer, Self::DeadLetter];

    /// The name that the API shows.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Cos => "COS",
            Self::Timer => "TIMER",
            Self::DeadLetter => "DEAD_LETTER",
        }
    }

    /// Reads a stored name. One that only a newer virga knows is taken for the API's.
    pub(super) fn parse(name: &str) -> Self {
        let known = Self::ALL.iter().find(|source| source.as_str() == name);
        known.copied().unwrap_or(Self::Api)
    }
}

/// A line of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum QueueKey {
    /// A function's.
    Function(FunctionKey),
    /// Those that were given up and go to a target.
    DeadLetters(AccountId, DeadLetter),
}

impl QueueKey {
    /// As it is stored.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Function(key) => {
                format!("function/{}/{}/{}", key.account, key.namespace, key.name)
            }
            Self::DeadLetters(account, target) => {
                let target = serde_json::to_string(target).unwrap_or_default();
                format!("letters/{account}/{target}")
            }
        }
    }

    /// Returns the account of a stored key. A key that cannot be read is of account 0, which nobody has, so that its events are
    /// counted all the same.
    pub(super) fn account(key: Option<&str>) -> AccountId {
        let account = key.and_then(|key| key.split('/').nth(1)?.parse().ok());
        AccountId(account.unwrap_or(0))
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('/')?;
        let (account, rest) = rest.split_once('/')?;
        let account = AccountId(account.parse().ok()?);
        match kind {
            "function" => {
                let (namespace, name) = rest.split_once('/')?;
                Some(Self::Function(FunctionKey {
                    account,
                    namespace: Namespace::parse(namespace).ok()?,
                    name: FunctionName::parse(name).ok()?,
                }))
            }
            "letters" => Some(Self::DeadLetters(account, serde_json::from_str(rest).ok()?)),
            _ => None,
        }
    }
}

/// An event to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    /// Its name: a second one of the same name is the same event, and does not run again.
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    /// What an alias chooses a version by.
    pub(crate) routing_key: RoutingKey,
    pub(crate) source: EventOrigin,
    /// How deep it is in a chain of functions.
    pub(crate) depth: RecursionDepth,
    /// A JSON document.
    pub(crate) event: Bytes,
}

/// An event as it is kept, without its place in line.
#[derive(Clone, Debug)]
pub(crate) struct QueuedEvent {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    pub(crate) routing_key: RoutingKey,
    pub(crate) source: EventOrigin,
    pub(crate) depth: RecursionDepth,
    pub(crate) accepted: Time,
    pub(crate) failures: Failures,
    /// How it failed last.
    pub(crate) status: Option<u16>,
    /// Why it was given up.
    pub(crate) message: Option<String>,
    pub(crate) event: Bytes,
}

/// How often an event has failed and was tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// By the function's fault.
    pub(crate) user: u32,
    /// By the platform's, or the target's of a dead letter.
    pub(crate) system: u32,
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// It ran.
    Succeeded,
    /// It failed and runs, or is sent, again.
    Retry { due: Time, failures: Failures },
    /// It failed and is given up: it goes to a target, or is kept.
    Failed { why: String, to: Option<DeadLetter> },
    /// It was taken away.
    Aborted,
    /// As a dead letter it has reached its target, or was taken away.
    Delivered,
}

/// Where an event is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventState {
    /// It waits or runs.
    Waiting,
    /// It was given up and is on its way to a target.
    Undelivered,
    /// It was given up and is kept.
    Dead,
    /// It ran.
    Finished,
    /// It was given up, and nothing is left of it here.
    Failed,
    /// It was taken away.
    Aborted,
}

impl EventState {
    pub(crate) const ALL: &[Self] = &[
        Self::Waiting,
        Self::Undelivered,
        Self::Dead,
        Self::Finished,
        Self::Failed,
        Self::Aborted,
    ];

    /// As it is stored: what is in a lane is at most 1, what has a body at most 2.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Undelivered => 1,
            Self::Dead => 2,
            Self::Finished => 10,
            Self::Failed => 11,
            Self::Aborted => 12,
        }
    }

    pub(super) fn of(number: i64) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|state| state.number() == number)
            .copied()
    }

    /// The word for it on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Undelivered => "undelivered",
            Self::Dead => "dead",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }
}

/// Which events are wanted.
#[derive(Clone, Debug)]
pub(crate) struct EventQuery {
    pub(crate) account: AccountId,
    pub(crate) function: Option<FunctionKey>,
    pub(crate) qualifier: Option<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) states: Vec<EventState>,
    pub(crate) request: Option<RequestId>,
    /// When they came, from and up to.
    pub(crate) accepted: (Time, Time),
    /// When they ended, if they must have.
    pub(crate) ended: Option<(Time, Time)>,
    pub(crate) by_end: bool,
    pub(crate) descending: bool,
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

impl EventQuery {
    /// All of an account's events in some states, the oldest first.
    pub(crate) fn all(account: AccountId, states: Vec<EventState>, limit: u32) -> Self {
        Self {
            account,
            function: None,
            qualifier: None,
            sources: Vec::new(),
            states,
            request: None,
            accepted: (Time(0), Time(i64::MAX as u64)),
            ended: None,
            by_end: false,
            descending: false,
            offset: 0,
            limit,
        }
    }
}

/// A page of events, and how many there are in all.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventPage {
    pub(crate) total: u64,
    pub(crate) rows: Vec<EventRow>,
}

/// An event to be shown.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: u64,
    pub(crate) due: Time,
    /// Where it waits, or waited last.
    pub(crate) queue_key: QueueKey,
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: String,
    pub(crate) source: String,
    pub(crate) state: EventState,
    pub(crate) accepted: Time,
    pub(crate) ended: Option<Time>,
    pub(crate) failures: Failures,
    pub(crate) status: Option<u16>,
    pub(crate) message: Option<String>,
    pub(crate) bytes: u64,
    /// The event, where one alone was asked for.
    pub(crate) event: Option<String>,
}

/// What is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Events in lanes.
    pub(crate) events: u64,
    /// Their bytes, and those of events that were given up and are kept.
    pub(crate) bytes: u64,
    /// When the one that has been due longest was due.
    pub(crate) oldest: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_keys_round_trip() {
        let key = FunctionKey {
            account: AccountId(7),
            namespace: Namespace::default(),
            name: FunctionName::parse("fun").expect("a name"),
        };
        let http = DeadLetter::Http {
            url: "http://host/a/b?c=\"".into(),
            kind: "queue".into(),
        };
        for queue_key in [
            QueueKey::Function(key),
            QueueKey::DeadLetters(AccountId(7), http),
        ] {
            assert_eq!(QueueKey::account(Some(&queue_key.write())), AccountId(7));
            assert_eq!(QueueKey::read(&queue_key.write()), Some(queue_key));
        }
        assert_eq!(QueueKey::read("something/7/x"), None);
    }
}
