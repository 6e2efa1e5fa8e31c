//! Types of an asynchronous event: as accepted, as stored, as completed and as shown.

use bytes::Bytes;
use dispatch::Time;
use model::{
    AccountId, DeadLetter, FunctionKey, FunctionName, InvocationOrigin, Namespace, Qualifier,
    RequestId, RoutingKey, TraceContext,
};

use crate::call_chains::RecursionDepth;

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventOrigin {
    /// `Invoke` with InvocationType Event, or any `Invoke` of a function with asynchronous execution.
    Api,
    /// A change of an object in a bucket.
    Cos,
    /// A timer.
    Timer,
    /// A dead letter of another function.
    DeadLetter,
}

impl EventOrigin {
    /// Returns the origin of its invocations.
    pub(super) fn invocations(self) -> InvocationOrigin {
        match self {
            Self::Api => InvocationOrigin::Api,
            Self::Cos => InvocationOrigin::Cos,
            Self::Timer => InvocationOrigin::Timer,
            Self::DeadLetter => InvocationOrigin::DeadLetter,
        }
    }

    const ALL: &[Self] = &[Self::Api, Self::Cos, Self::Timer, Self::DeadLetter];

    /// Returns the name that the API shows.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Cos => "COS",
            Self::Timer => "TIMER",
            Self::DeadLetter => "DEAD_LETTER",
        }
    }

    /// Parses a stored name. A name that only a newer virga knows becomes [`EventOrigin::Api`].
    pub(super) fn parse(name: &str) -> Self {
        let known = Self::ALL.iter().find(|source| source.as_str() == name);
        known.copied().unwrap_or(Self::Api)
    }
}

/// The key of one queue of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum QueueKey {
    /// The queue of a function.
    Function(FunctionKey),
    /// The dead letters of an account for one target.
    DeadLetters(AccountId, DeadLetter),
}

impl QueueKey {
    /// Returns the stored form.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Function(key) => {
                format!("function/{}/{}/{}", key.account, key.namespace, key.name)
            }
            Self::DeadLetters(account, target) => {
                let target = serde_json::to_string(target).unwrap_or_default();
                format!("dead-letters/{account}/{target}")
            }
        }
    }

    /// Returns the account of a stored key. An unreadable key gives account 0, which nobody has, so that its events still count.
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
            "dead-letters" => Some(Self::DeadLetters(account, serde_json::from_str(rest).ok()?)),
            _ => None,
        }
    }
}

/// An event to enqueue.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    /// The idempotency key: a second event with the same request id is a duplicate and does not run.
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    /// The key by which an alias chooses a version.
    pub(crate) routing_key: RoutingKey,
    pub(crate) source: EventOrigin,
    /// Recursion depth in its call chain.
    pub(crate) depth: RecursionDepth,
    /// The trace context of the request that caused it, which all attempts have.
    pub(crate) trace: Option<TraceContext>,
    /// A JSON document.
    pub(crate) event: Bytes,
}

/// A stored event that has not completed, without its position in the queue.
#[derive(Clone, Debug)]
pub(crate) struct QueuedEvent {
    pub(crate) request: RequestId,
    pub(crate) function: FunctionKey,
    pub(crate) qualifier: Qualifier,
    pub(crate) routing_key: RoutingKey,
    pub(crate) source: EventOrigin,
    pub(crate) depth: RecursionDepth,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) accepted: Time,
    pub(crate) failures: Failures,
    /// Status of the last failure.
    pub(crate) status: Option<u16>,
    /// Error message with which it failed permanently.
    pub(crate) message: Option<String>,
    pub(crate) event: Bytes,
}

/// Number of failed attempts that were retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Failures of the function.
    pub(crate) user: u32,
    /// Failures of the platform or, for a dead letter, of its target.
    pub(crate) system: u32,
}

/// The completion of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// The function succeeded.
    Succeeded,
    /// The attempt failed and is retried.
    Retry { due: Time, failures: Failures },
    /// The event failed permanently. It is dead-lettered to a target, or kept as a dead event.
    Failed { why: String, to: Option<DeadLetter> },
    /// The event was cancelled.
    Aborted,
    /// The dead letter was delivered to its target, or discarded.
    Delivered,
}

/// The state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventState {
    /// Waiting or running.
    Waiting,
    /// Failed permanently; its dead letter is not delivered yet.
    Undelivered,
    /// Failed permanently without a dead-letter target; kept for inspection or replay.
    Dead,
    /// Succeeded.
    Finished,
    /// Failed permanently; the dead letter was delivered or discarded.
    Failed,
    /// Cancelled.
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

    /// Returns the stored number. States up to 1 wait in a queue; states up to 2 still have a body.
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

    /// Returns the name shown on the command line.
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

/// A search for events.
#[derive(Clone, Debug)]
pub(crate) struct EventQuery {
    pub(crate) account: AccountId,
    pub(crate) function: Option<FunctionKey>,
    pub(crate) qualifier: Option<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) states: Vec<EventState>,
    pub(crate) request: Option<RequestId>,
    /// Range of acceptance times, inclusive.
    pub(crate) accepted: (Time, Time),
    /// Range of completion times, inclusive; `None` includes events that have not completed.
    pub(crate) ended: Option<(Time, Time)>,
    pub(crate) by_end: bool,
    pub(crate) descending: bool,
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

impl EventQuery {
    /// Returns a query for an account's events in some states, oldest first.
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

/// A page of events and the total number of matches.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventPage {
    pub(crate) total: u64,
    pub(crate) rows: Vec<EventRow>,
}

/// An event as a search returns it.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) seq: u64,
    pub(crate) due: Time,
    /// The queue in which it waits or last waited.
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
    /// The body, if a single event was requested.
    pub(crate) event: Option<String>,
}

/// Size and age of the backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Events that wait or run, and undelivered dead letters.
    pub(crate) events: u64,
    /// Bytes of these events and of dead events.
    pub(crate) bytes: u64,
    /// Due time of the event that has been due the longest.
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
