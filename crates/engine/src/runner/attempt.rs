//! One attempt to run an event.

use std::time::Duration;

use bytes::Bytes;
use dispatch::events::{
    Disposition, Fault, FunctionQueueId, QueueInput, RetryDecision, RetryPolicy, retry_decision,
};
use events::usage::UsageEntry;
use events::{Completion, EventOrigin, Failures, QueuedEvent};
use model::{DeadLetter, EventConfig, Qualifier, StatusCode, Version};
use telemetry::EventStep;
use tracing::{debug, warn};

use super::handle::AttemptHandle;
use super::state::{Runner, Turn};
use crate::invoke::{AcquireOptions, IngestError, Invocation, InvocationResult, Placement};

/// Interval between attempts to record a completion while the disk cannot be written.
const COMPLETION_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The rules in force for a function's events.
struct Rules {
    policy: RetryPolicy,
    dead_letter: Option<DeadLetter>,
    /// Whether an event runs at most once (asynchronous execution).
    once: bool,
}

/// A failed attempt.
struct Failed {
    fault: Fault,
    status: StatusCode,
    why: String,
    usage: Option<UsageEntry>,
}

impl Runner {
    /// Ends an attempt. An event that was cancelled at the last moment is not retried.
    pub(super) async fn end(
        &self,
        queue: FunctionQueueId,
        seq: u64,
        attempt: &AttemptHandle,
        then: Disposition,
    ) {
        {
            let core = self.core();
            if then == Disposition::Removed || !attempt.is_aborted() {
                return self.take(core, QueueInput::Ended { queue, seq, then });
            }
        }
        let then = match self.shared.queue.get(seq).await {
            Ok(Some(queued)) => self.aborted(seq, &queued, None).await,
            Ok(None) => Disposition::Removed,
            Err(error) => {
                warn!(seq, %error, "failed to read a cancelled event; it will be redelivered");
                then
            }
        };
        self.step(QueueInput::Ended { queue, seq, then });
    }

    /// Runs an event once and records the completion.
    #[expect(clippy::too_many_lines, reason = "one attempt, step by step")]
    pub(super) async fn attempt(
        &self,
        queue: FunctionQueueId,
        seq: u64,
        attempt: &AttemptHandle,
        turn: Turn,
    ) -> Disposition {
        let queued = match self.shared.queue.get(seq).await {
            Ok(Some(queued)) => queued,
            Ok(None) => return Disposition::Removed,
            Err(error) => {
                warn!(seq, %error, "failed to read an event; will retry");
                return Disposition::Throttled;
            }
        };
        // A closed account's events stay untouched until the purge removes them.
        if !self.shared.catalog.is_open(queued.function.account) {
            return Disposition::Removed;
        }
        let rules = self.rules(&queued);
        let now = self.shared.queue.clock().now();
        if rules.policy.has_expired(now, queued.accepted) {
            let seconds = rules.policy.ttl / 1_000_000;
            let why = format!("the event waited longer than its MsgTTL of {seconds} seconds");
            let to = dead_letter_target(&queued, &rules);
            let status = StatusCode::ResourceLimitReached;
            let completion = Completion::Failed { why, to };
            return self.complete(seq, &queued, status, completion, None).await;
        }
        let limit = self.shared.settings.max_depth;
        if queued.source != EventOrigin::DeadLetter && queued.depth >= limit {
            let why = format!(
                "recursion loop: the event is at depth {} of a call chain and max_depth is {}; check whether a function writes to \
                 the bucket that triggers it, or raise max_depth",
                queued.depth.0, limit.0
            );
            self.shared.metrics.event(EventStep::Looped);
            // Deeper events get no dead letter: otherwise the dead letters would form an endless chain themselves.
            let to = dead_letter_target(&queued, &rules).filter(|_| queued.depth == limit);
            let completion = Completion::Failed { why, to };
            let status = StatusCode::RequestCanceled;
            return self.complete(seq, &queued, status, completion, None).await;
        }
        let (queued, cached) = self.cache_body(queued);
        let invocation = Invocation {
            request: queued.request,
            function: queued.function.clone(),
            qualifier: queued.qualifier.clone(),
            routing_key: queued.routing_key.clone(),
            event: Bytes::new(),
            tail: false,
            retry: queued.failures.user + queued.failures.system,
            depth: queued.depth,
            origin: queued.source.invocations(),
            trace: queued.trace.clone(),
        };
        let Turn { before, on_queued } = turn;
        let mut waiting = AcquireOptions {
            timeout: Some(self.shared.settings.wait),
            on_queued: Some(on_queued),
        };
        let place = async {
            if let Some(before) = before
                && before.await.is_ok()
            {
                return None;
            }
            Some(self.shared.ingest.place(&invocation, &mut waiting).await)
        };
        let mut draining = self.shared.draining.subscribe();
        let mut aborted = attempt.subscribe();
        let placed = tokio::select! {
            placed = place => Some(placed),
            _ = draining.wait_for(|draining| *draining) => return Disposition::NotStarted,
            _ = aborted.wait_for(|aborted| *aborted) => None,
        };
        let Some(placed) = placed else {
            return self.aborted(seq, &queued, None).await;
        };
        // Makes the events behind return to the queue, too.
        let short = |waiting: AcquireOptions| {
            waiting.on_queued.map(|next| next.send(()));
            Disposition::Throttled
        };
        let Some(placed) = placed else {
            return short(waiting);
        };
        let failed = match placed {
            Ok(Placement::Ready(mut ready)) => {
                self.step(QueueInput::Assigned { queue, seq });
                let event = match cached {
                    Some(cached) => cached.bytes.clone(),
                    None => match self.shared.queue.get(seq).await {
                        Ok(Some(again)) => again.event,
                        Ok(None) => return Disposition::Removed,
                        Err(error) => {
                            warn!(seq, %error, "failed to read an event; will retry");
                            return Disposition::Throttled;
                        }
                    },
                };
                attempt.set_stopper(Some(ready.stopper()));
                if attempt.is_aborted() {
                    return self.aborted(seq, &queued, None).await;
                }
                let finished = ready.run(event).await;
                attempt.set_stopper(None);
                if attempt.is_aborted() {
                    return self.aborted(seq, &queued, finished.entry).await;
                }
                if finished.status == StatusCode::Ok {
                    let (status, usage) = (finished.status, finished.entry);
                    return self
                        .complete(seq, &queued, status, Completion::Succeeded, usage)
                        .await;
                }
                let mut failed = failure(finished);
                if rules.once {
                    failed.fault = Fault::Caller;
                }
                failed
            }
            Ok(Placement::Refused(finished)) if is_throttled(finished.status) => {
                if let Some(entry) = finished.entry {
                    self.shared.queue.meter(entry);
                }
                return short(waiting);
            }
            Ok(Placement::Refused(finished)) => failure(finished),
            Err(IngestError::Draining) => return Disposition::NotStarted,
            Err(error) => refusal(&error),
        };
        self.failed(seq, &queued, &rules, failed).await
    }

    async fn failed(
        &self,
        seq: u64,
        queued: &QueuedEvent,
        rules: &Rules,
        failed: Failed,
    ) -> Disposition {
        let Failed {
            fault,
            status,
            why,
            usage,
        } = failed;
        let Failures {
            mut user,
            mut system,
        } = queued.failures;
        let count = match fault {
            Fault::User => &mut user,
            Fault::System | Fault::Caller => &mut system,
        };
        *count = count.saturating_add(1);
        let (count, now) = (*count, self.shared.queue.clock().now());
        let completion = match retry_decision(&rules.policy, now, queued.accepted, fault, count) {
            RetryDecision::Retry { at } => Completion::Retry {
                due: at,
                failures: Failures { user, system },
            },
            RetryDecision::GiveUp => Completion::Failed {
                why,
                to: dead_letter_target(queued, rules),
            },
        };
        debug!(function = %queued.function.name, request = %queued.request, status = status.as_u16(), ?fault, "an attempt failed");
        self.complete(seq, queued, status, completion, usage).await
    }

    async fn aborted(
        &self,
        seq: u64,
        queued: &QueuedEvent,
        usage: Option<UsageEntry>,
    ) -> Disposition {
        let status = StatusCode::RequestCanceled;
        self.complete(seq, queued, status, Completion::Aborted, usage)
            .await
    }

    /// Records a completion and retries until it is on disk. Until then the attempt counts as in progress.
    pub(super) async fn complete(
        &self,
        seq: u64,
        queued: &QueuedEvent,
        status: StatusCode,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> Disposition {
        let (then, step) = match &completion {
            Completion::Retry { due, .. } => (Disposition::Retry { due: *due }, EventStep::Retried),
            Completion::Succeeded => (Disposition::Removed, EventStep::Delivered),
            Completion::Aborted => (Disposition::Removed, EventStep::Aborted),
            Completion::Delivered => (Disposition::Removed, EventStep::DeadLettered),
            Completion::Failed { why, to } => {
                let shown: String = why.chars().take(200).collect();
                warn!(function = %queued.function.name, request = %queued.request, status = status.as_u16(), why = shown,
                    dead_letter = to.is_some(), "an event failed permanently");
                (Disposition::Removed, EventStep::Failed)
            }
        };
        let queue = &self.shared.queue;
        while let Err(error) = queue
            .complete(seq, status, completion.clone(), usage.clone())
            .await
        {
            // At debug level: the writer thread logs the error once for all events.
            debug!(request = %queued.request, %error, "failed to record a completion; will retry");
            tokio::time::sleep(COMPLETION_RETRY_INTERVAL).await;
        }
        self.shared.metrics.event(step);
        then
    }

    /// Returns the rules in force for an event.
    fn rules(&self, queued: &QueuedEvent) -> Rules {
        let settings = &self.shared.settings;
        let stored = self.shared.catalog.function(&queued.function);
        let function = stored.as_ref().map(|stored| &stored.value);
        let usual = EventConfig::default_for(&settings.limits);
        let config = function
            .and_then(|function| function.events)
            .unwrap_or(usual);
        let once = function.is_some_and(|function| function.async_run);
        let policy = RetryPolicy {
            retries: if once { 0 } else { config.retries },
            ttl: u64::from(config.ttl_s) * 1_000_000,
            ..settings.policy
        };
        let dead_letter = function.and_then(|function| {
            // An alias uses the configuration of its main version.
            let version = match &queued.qualifier {
                Qualifier::Latest => Version::Latest,
                Qualifier::Version(number) => Version::Number(*number),
                Qualifier::Alias(name) => function.alias(name)?.version,
            };
            function.serving(version)?.config.dead_letter.clone()
        });
        Rules {
            policy,
            dead_letter,
            once,
        }
    }
}

/// Returns the dead-letter target of an event. A dead letter has none itself, so that dead letters cannot loop.
fn dead_letter_target(queued: &QueuedEvent, rules: &Rules) -> Option<DeadLetter> {
    let further = queued.source != EventOrigin::DeadLetter;
    rules.dead_letter.clone().filter(|_| further)
}

/// Returns whether a status means that no instance was available.
fn is_throttled(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::ResourceLimitReached
            | StatusCode::ResourceLimit
            | StatusCode::InsufficientResources
    )
}

fn failure(finished: InvocationResult) -> Failed {
    let fault = match finished.status {
        StatusCode::InvalidParameterValue | StatusCode::RequestTooLarge => Fault::Caller,
        status if status.is_user_fault() => Fault::User,
        _ => Fault::System,
    };
    Failed {
        fault,
        status: finished.status,
        why: String::from_utf8_lossy(&finished.answer).into_owned(),
        usage: finished.entry,
    }
}

fn refusal(error: &IngestError) -> Failed {
    let (fault, status) = match error {
        IngestError::NoFunction(_) | IngestError::NoNamespace(_) => {
            (Fault::Caller, StatusCode::FunctionNotFound)
        }
        IngestError::NoQualifier { .. } => (Fault::Caller, StatusCode::QualifierNotFound),
        IngestError::TooLarge { .. } => (Fault::Caller, StatusCode::RequestTooLarge),
        IngestError::Invalid(_) | IngestError::Web(_) => {
            (Fault::Caller, StatusCode::InvalidParameterValue)
        }
        IngestError::State { .. } => (Fault::System, StatusCode::FunctionStatusError),
        IngestError::Open { .. } => (Fault::System, StatusCode::ContainerInitError),
        IngestError::Draining | IngestError::Queue(_) => (Fault::System, StatusCode::InternalError),
    };
    Failed {
        fault,
        status,
        why: error.to_string(),
        usage: None,
    }
}
