//! Operations on single events: cancel, discard and replay.

use dispatch::events::{Disposition, FunctionQueueId, QueueInput, QueuePosition};
use events::{EventRow, EventState, QueueError, QueueKey};
use model::FailureKind;
use telemetry::EventStep;

use super::state::Runner;

/// The result of an operation on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlOutcome {
    /// The operation was applied, or will be in a moment.
    Applied,
    /// The event had completed already.
    TooLate,
}

impl ControlOutcome {
    fn of(applied: bool) -> Self {
        if applied {
            Self::Applied
        } else {
            Self::TooLate
        }
    }
}

impl Runner {
    /// Cancels an event that waits or runs. With `gracefully`, a running function is asked to stop instead of killed.
    pub async fn terminate(
        &self,
        row: &EventRow,
        gracefully: bool,
    ) -> Result<ControlOutcome, QueueError> {
        if row.state != EventState::Waiting {
            return Ok(ControlOutcome::TooLate);
        }
        let Some(queue) = self.hold(row) else {
            let core = self.core();
            let Some(attempt) = core.attempts.get(&row.seq).cloned() else {
                return Ok(ControlOutcome::TooLate);
            };
            // `end` checks the flag under the same lock, so the cancellation is not missed.
            attempt.abort();
            drop(core);
            attempt.stop(gracefully);
            return Ok(ControlOutcome::Applied);
        };
        let cancelled = FailureKind::Cancelled;
        let terminated = self.shared.queue.terminate(row.request, cancelled).await;
        self.release(queue, row.seq, terminated.is_ok());
        if !terminated? {
            return Ok(ControlOutcome::TooLate);
        }
        self.shared.metrics.event(EventStep::Aborted);
        Ok(ControlOutcome::Applied)
    }

    /// Discards a dead or undelivered event.
    pub async fn discard(&self, row: &EventRow) -> Result<ControlOutcome, QueueError> {
        let queue = match row.state {
            EventState::Dead => None,
            EventState::Undelivered => match self.hold(row) {
                Some(queue) => Some(queue),
                None => return Ok(ControlOutcome::TooLate),
            },
            _ => return Ok(ControlOutcome::TooLate),
        };
        let discarded = self.shared.queue.discard(row.request).await;
        if let Some(queue) = queue {
            self.release(queue, row.seq, discarded.is_ok());
        }
        discarded.map(ControlOutcome::of)
    }

    /// Replays an event that failed permanently.
    pub async fn replay(&self, row: &EventRow) -> Result<ControlOutcome, QueueError> {
        let queue = match row.state {
            EventState::Dead => None,
            EventState::Undelivered => match self.hold(row) {
                Some(queue) => Some(queue),
                None => return Ok(ControlOutcome::TooLate),
            },
            _ => return Ok(ControlOutcome::TooLate),
        };
        let replayed = self.shared.queue.replay(row.request).await;
        if let Some(queue) = queue {
            self.release(queue, row.seq, replayed.is_ok());
        }
        replayed.map(ControlOutcome::of)
    }

    /// Prevents an event from being started. Returns `None` if an attempt is in progress.
    fn hold(&self, row: &EventRow) -> Option<FunctionQueueId> {
        let mut core = self.core();
        let queue = core.queue(&row.queue_key);
        let order = QueuePosition {
            due: row.due,
            seq: row.seq,
        };
        core.function_queues.hold(queue, order).then_some(queue)
    }

    fn release(&self, queue: FunctionQueueId, seq: u64, gone: bool) {
        let then = if gone {
            Disposition::Removed
        } else {
            Disposition::NotStarted
        };
        self.step(QueueInput::Ended { queue, seq, then });
        self.shared.ended.notify_waiters();
    }

    /// Returns whether an event of a function queue runs now.
    pub fn runs(&self, row: &EventRow) -> bool {
        matches!(row.queue_key, QueueKey::Function(_)) && self.is_running(row.seq)
    }
}
