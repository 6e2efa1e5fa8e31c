//! Types of an asynchronous event: as accepted, as stored, as completed and as shown.

use bytes::Bytes;
use dispatch::Time;
use model::{
    AccountId, DeadLetter, FunctionKey, FunctionName, InvocationOrigin, Namespace, Qualifier,
    RecursionDepth, RequestId, RoutingKey, TraceContext, TriggerKind,
};

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrigin {
    /// `Invoke` with InvocationType Event, or any `Invoke` of a function with asynchronous execution.
    Api,
    /// A trigger that sends events.
    Trigger(TriggerKind),
    /// A dead letter of another function.
    DeadLetter,
}

impl EventOrigin {
    /// Returns the origin of its invocations.
    pub fn invocations(self) -> InvocationOrigin {
        match self {
            Self::Api => InvocationOrigin::Api,
            Self::Trigger(kind) => InvocationOrigin::Trigger(kind),
            Self::DeadLetter => InvocationOrigin::DeadLetter,
        }
    }

    /// Returns the name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Trigger(kind) => kind.description().origin,
            Self::DeadLetter => "DEAD_LETTER",
        }
    }

    /// Parses a stored name. A name that only a newer virga knows becomes [`EventOrigin::Api`].
    pub(super) fn parse(name: &str) -> Self {
        let triggers = TriggerKind::ALL.map(Self::Trigger);
        let mut known = triggers.into_iter().chain([Self::DeadLetter]);
        known
            .find(|source| source.as_str() == name)
            .unwrap_or(Self::Api)
    }
}

/// The key of one queue of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueKey {
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

/// One attempt of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// The event's request id.
    pub request: RequestId,
    /// Counts the attempts of the event, from 1. A move to another queue ends one, too, so that a late completion of an earlier attempt
    /// never ends a later one.
    pub number: u32,
}

/// An event to enqueue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The idempotency key: a second event with the same request id is a duplicate and does not run.
    pub request: RequestId,
    /// The function that it runs.
    pub function: FunctionKey,
    /// The version or alias.
    pub qualifier: Qualifier,
    /// The key by which an alias chooses a version.
    pub routing_key: RoutingKey,
    /// Its source.
    pub source: EventOrigin,
    /// Recursion depth in its call chain.
    pub depth: RecursionDepth,
    /// The trace context of the request that caused it, which all attempts have.
    pub trace: Option<TraceContext>,
    /// A JSON document.
    pub event: Bytes,
}

/// A stored event that has not completed, without its position in the queue.
#[derive(Clone, Debug)]
pub struct QueuedEvent {
    /// The request id.
    pub request: RequestId,
    /// The number of its next attempt, or of the one in progress.
    pub attempt: u32,
    /// The function that it runs.
    pub function: FunctionKey,
    /// The version or alias.
    pub qualifier: Qualifier,
    /// The key by which an alias chooses a version.
    pub routing_key: RoutingKey,
    /// Its source.
    pub source: EventOrigin,
    /// Its recursion depth.
    pub depth: RecursionDepth,
    /// The trace context of its request.
    pub trace: Option<TraceContext>,
    /// The time at which it was accepted.
    pub accepted: Time,
    /// Its failed attempts.
    pub failures: Failures,
    /// Stored number of the last failure's [kind](model::FailureKind).
    pub status: Option<u16>,
    /// Error message with which it failed permanently.
    pub message: Option<String>,
    /// A JSON document.
    pub event: Bytes,
}

impl QueuedEvent {
    /// Returns the attempt that its completion names.
    pub fn attempt(&self) -> AttemptId {
        AttemptId {
            request: self.request,
            number: self.attempt,
        }
    }
}

/// Number of failed attempts that were retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failures of the function.
    pub user: u32,
    /// Failures of the platform or, for a dead letter, of its target.
    pub system: u32,
}

/// The completion of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The function succeeded.
    Succeeded,
    /// The attempt failed and is retried.
    Retry {
        /// The time until the next attempt, in microseconds.
        delay: u64,
        /// The failed attempts so far.
        failures: Failures,
    },
    /// The event failed permanently. It is dead-lettered to a target, or kept as a dead event.
    Failed {
        /// The reason.
        why: String,
        /// The dead-letter target.
        to: Option<DeadLetter>,
    },
    /// The event was cancelled.
    Aborted,
    /// The dead letter was delivered to its target, or discarded.
    Delivered,
}

/// The state of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventState {
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
    /// All states.
    pub const ALL: &[Self] = &[
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
    pub fn as_str(self) -> &'static str {
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
pub struct EventQuery {
    /// The account whose events are searched.
    pub account: AccountId,
    /// Events of this function only.
    pub function: Option<FunctionKey>,
    /// Events of this version or alias only.
    pub qualifier: Option<String>,
    /// Events of these sources only; empty = all.
    pub sources: Vec<String>,
    /// Events in these states only; empty = all.
    pub states: Vec<EventState>,
    /// The event with this request id only.
    pub request: Option<RequestId>,
    /// Range of acceptance times, inclusive.
    pub accepted: (Time, Time),
    /// Range of completion times, inclusive; `None` includes events that have not completed.
    pub ended: Option<(Time, Time)>,
    /// Whether to sort by the time of completion.
    pub by_end: bool,
    /// Whether the latest event is first.
    pub descending: bool,
    /// Number of rows to skip.
    pub offset: u32,
    /// Maximum number of rows.
    pub limit: u32,
}

impl EventQuery {
    /// Returns a query for an account's events in some states, oldest first.
    pub fn all(account: AccountId, states: Vec<EventState>, limit: u32) -> Self {
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
pub struct EventPage {
    /// Number of rows that match.
    pub total: u64,
    /// The rows of this page.
    pub rows: Vec<EventRow>,
}

/// An event as a search returns it.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// The event's number.
    pub seq: u64,
    /// The time of its next attempt.
    pub due: Time,
    /// The queue in which it waits or last waited.
    pub queue_key: QueueKey,
    /// The request id.
    pub request: RequestId,
    /// The function that it runs.
    pub function: FunctionKey,
    /// The version or alias.
    pub qualifier: String,
    /// Its source.
    pub source: String,
    /// Its state.
    pub state: EventState,
    /// The time at which it was accepted.
    pub accepted: Time,
    /// The time of its completion.
    pub ended: Option<Time>,
    /// Its failed attempts.
    pub failures: Failures,
    /// Stored number of the last outcome: 200, or that of a [`model::FailureKind`].
    pub status: Option<u16>,
    /// The error of the last attempt.
    pub message: Option<String>,
    /// The size of its body.
    pub bytes: u64,
    /// The body, if a single event was requested.
    pub event: Option<String>,
}

/// Size and age of the backlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that wait or run, and undelivered dead letters.
    pub events: u64,
    /// Bytes of these events and of dead events.
    pub bytes: u64,
    /// Due time of the event that has been due the longest.
    pub oldest: Option<Time>,
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
