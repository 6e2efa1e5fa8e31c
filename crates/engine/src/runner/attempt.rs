//! One attempt to run an event.

use std::time::Duration;

use bytes::Bytes;
use dispatch::events::{
    Disposition, Fault, FunctionQueueId, QueueInput, RetryDecision, retry_decision,
};
use events::usage::UsageEntry;
use events::{Completion, Failures, QueuedEvent};
use model::{Blame, Failure, FailureKind, RequestId, outcome_number};
use telemetry::EventStep;
use tracing::{debug, warn};

use super::handle::AttemptHandle;
use super::rules::{Rules, dead_letter_target};
use super::state::{CachedBody, Runner, Turn};
use crate::invoke::{AcquireOptions, IngestError, Invocation, Placement, Ready};

/// Interval between attempts to record a completion while the disk cannot be written.
const COMPLETION_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How an attempt ended, before that is recorded.
enum AttemptEnd {
    /// It did not run.
    NotRun(Disposition),
    /// The event was cancelled.
    Aborted(Option<UsageEntry>),
    Succeeded(Option<UsageEntry>),
    Failed(Failed),
}

/// A failed attempt.
struct Failed {
    fault: Fault,
    kind: FailureKind,
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
            Ok(Some(queued)) => self.aborted(&queued, None).await,
            Ok(None) => Disposition::Removed,
            Err(error) => {
                warn!(seq, %error, "failed to read a cancelled event; it will be redelivered");
                then
            }
        };
        self.step(QueueInput::Ended { queue, seq, then });
    }

    /// Runs an event once and records the completion.
    pub(super) async fn attempt(
        &self,
        queue: FunctionQueueId,
        seq: u64,
        attempt: &AttemptHandle,
        turn: Turn,
    ) -> Disposition {
        let queued = match self.read(seq).await {
            Ok(queued) => queued,
            Err(then) => return then,
        };
        // A closed account's events stay untouched until the purge removes them.
        if !self.shared.catalog.is_open(queued.function.account) {
            return Disposition::Removed;
        }
        let rules = self.rules(&queued);
        if let Some((kind, completion)) = self.unfit(&queued, &rules) {
            return self.complete(&queued, Some(kind), completion, None).await;
        }
        let (queued, cached) = self.cache_body(queued);
        let ran = match self.place(attempt, turn, &queued).await {
            Ok(ready) => {
                self.step(QueueInput::Assigned { queue, seq });
                self.run(seq, attempt, ready, cached, &rules).await
            }
            Err(ran) => ran,
        };
        match ran {
            AttemptEnd::NotRun(then) => then,
            AttemptEnd::Aborted(usage) => self.aborted(&queued, usage).await,
            AttemptEnd::Succeeded(usage) => {
                self.complete(&queued, None, Completion::Succeeded, usage)
                    .await
            }
            AttemptEnd::Failed(failed) => self.failed(&queued, &rules, failed).await,
        }
    }

    /// Reads an event that is to run.
    async fn read(&self, seq: u64) -> Result<QueuedEvent, Disposition> {
        match self.shared.queue.get(seq).await {
            Ok(Some(queued)) => Ok(queued),
            Ok(None) => Err(Disposition::Removed),
            Err(error) => {
                warn!(seq, %error, "failed to read an event; will retry");
                Err(Disposition::Throttled)
            }
        }
    }

    /// Acquires an instance for an event, when it is the event's turn.
    async fn place(
        &self,
        attempt: &AttemptHandle,
        turn: Turn,
        queued: &QueuedEvent,
    ) -> Result<Ready, AttemptEnd> {
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
            placed = place => placed,
            _ = draining.wait_for(|draining| *draining) => {
                return Err(AttemptEnd::NotRun(Disposition::NotStarted));
            }
            _ = aborted.wait_for(|aborted| *aborted) => return Err(AttemptEnd::Aborted(None)),
        };
        let refused = match placed {
            Some(Ok(Placement::Ready(ready))) => return Ok(ready),
            Some(Ok(Placement::Refused(refused))) => refused,
            Some(Err(IngestError::Draining)) => {
                return Err(AttemptEnd::NotRun(Disposition::NotStarted));
            }
            Some(Err(error)) => return Err(AttemptEnd::Failed(refusal(&error))),
            None => return Err(throttled(waiting)),
        };
        if !refused.failure.kind.is_throttled() {
            let failed = self.failure(queued.request, &refused.failure, refused.entry);
            return Err(AttemptEnd::Failed(failed));
        }
        if let Some(entry) = refused.entry {
            self.shared.queue.meter(entry);
        }
        Err(throttled(waiting))
    }

    /// Runs an event on its instance.
    async fn run(
        &self,
        seq: u64,
        attempt: &AttemptHandle,
        mut ready: Ready,
        cached: Option<CachedBody>,
        rules: &Rules,
    ) -> AttemptEnd {
        let event = match cached {
            Some(cached) => cached.bytes.clone(),
            None => match self.read(seq).await {
                Ok(again) => again.event,
                Err(then) => return AttemptEnd::NotRun(then),
            },
        };
        attempt.set_stopper(Some(ready.stopper()));
        if attempt.is_aborted() {
            return AttemptEnd::Aborted(None);
        }
        let request = ready.request();
        let finished = ready.run(event).await;
        attempt.set_stopper(None);
        if attempt.is_aborted() {
            return AttemptEnd::Aborted(finished.entry);
        }
        match finished.result {
            Ok(_) => AttemptEnd::Succeeded(finished.entry),
            Err(failure) => {
                let mut failed = self.failure(request, &failure, finished.entry);
                if rules.once {
                    failed.fault = Fault::Caller;
                }
                AttemptEnd::Failed(failed)
            }
        }
    }

    fn failure(&self, request: RequestId, failure: &Failure, usage: Option<UsageEntry>) -> Failed {
        let document = self.shared.ingest.documents().failure(failure, request);
        Failed {
            fault: fault_of(failure.kind),
            kind: failure.kind,
            why: String::from_utf8_lossy(&document).into_owned(),
            usage,
        }
    }

    async fn failed(&self, queued: &QueuedEvent, rules: &Rules, failed: Failed) -> Disposition {
        let Failed {
            fault,
            kind,
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
                delay: at.0.saturating_sub(now.0),
                failures: Failures { user, system },
            },
            RetryDecision::GiveUp => Completion::Failed {
                why,
                to: dead_letter_target(queued, rules),
            },
        };
        debug!(function = %queued.function.name, request = %queued.request, status = kind.number(), ?fault, "an attempt failed");
        self.complete(queued, Some(kind), completion, usage).await
    }

    async fn aborted(&self, queued: &QueuedEvent, usage: Option<UsageEntry>) -> Disposition {
        let failure = Some(FailureKind::Cancelled);
        self.complete(queued, failure, Completion::Aborted, usage)
            .await
    }

    /// Records a completion and retries until it is on disk. Until then the attempt counts as in progress.
    pub(super) async fn complete(
        &self,
        queued: &QueuedEvent,
        failure: Option<FailureKind>,
        completion: Completion,
        usage: Option<UsageEntry>,
    ) -> Disposition {
        let step = match &completion {
            Completion::Retry { .. } => EventStep::Retried,
            Completion::Succeeded => EventStep::Delivered,
            Completion::Aborted => EventStep::Aborted,
            Completion::Delivered => EventStep::DeadLettered,
            Completion::Failed { why, to } => {
                let shown: String = why.chars().take(200).collect();
                warn!(function = %queued.function.name, request = %queued.request, status = outcome_number(failure), why = shown,
                    dead_letter = to.is_some(), "an event failed permanently");
                EventStep::Failed
            }
        };
        let retried = matches!(completion, Completion::Retry { .. });
        let (queue, attempt) = (&self.shared.queue, queued.attempt());
        let due = loop {
            let recorded = queue.complete(attempt, failure, completion.clone(), usage.clone());
            match recorded.await {
                Ok(due) => break due,
                // At debug level: the writer logs the error once for all events.
                Err(error) => {
                    debug!(request = %queued.request, %error, "failed to record a completion; will retry");
                }
            }
            tokio::time::sleep(COMPLETION_RETRY_INTERVAL).await;
        };
        self.shared.metrics.event(step);
        match due.filter(|_| retried) {
            Some(due) => Disposition::Retry { due },
            None => Disposition::Removed,
        }
    }
}

/// Returns the party at fault as the retry rules know it.
fn fault_of(kind: FailureKind) -> Fault {
    match kind.blame() {
        Blame::Caller => Fault::Caller,
        Blame::Function => Fault::User,
        Blame::Platform => Fault::System,
    }
}

/// Ends the attempt of a throttled event, and makes the events behind it return to the queue, too.
fn throttled(waiting: AcquireOptions) -> AttemptEnd {
    waiting.on_queued.map(|next| next.send(()));
    AttemptEnd::NotRun(Disposition::Throttled)
}

fn refusal(error: &IngestError) -> Failed {
    let kind = match error {
        IngestError::NoFunction(_) | IngestError::NoNamespace(_) => FailureKind::FunctionMissing,
        IngestError::NoQualifier { .. } => FailureKind::VersionMissing,
        IngestError::TooLarge { .. } => FailureKind::RequestTooLarge,
        IngestError::Invalid(_) | IngestError::Web(_) => FailureKind::InvalidRequest,
        IngestError::State { .. } => FailureKind::FunctionNotReady,
        IngestError::Open { .. } => FailureKind::NotStarted,
        IngestError::Draining | IngestError::Queue(_) => FailureKind::PlatformFault,
    };
    Failed {
        fault: fault_of(kind),
        kind,
        why: error.to_string(),
        usage: None,
    }
}
