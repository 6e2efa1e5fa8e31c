//! What people do to events: take them away, or bring them back.

use dispatch::events::{Disposition, FunctionQueueId, QueueInput, QueuePosition};
use model::StatusCode;

use super::super::{EventRow, EventState, LaneKey, QueueError, Settled};
use super::Runner;
use crate::telemetry::EventStep;

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was, or will be in a moment.
    Yes,
    /// The event has ended meanwhile.
    TooLate,
}

impl Runner {
    /// Ends an event that waits or runs; one that runs is told to end, where that is wanted.
    pub(crate) async fn terminate(
        &self,
        row: &EventRow,
        gracefully: bool,
    ) -> Result<Taken, QueueError> {
        if row.state != EventState::Waiting {
            return Ok(Taken::TooLate);
        }
        let Some(queue) = self.hold(row) else {
            let core = self.core();
            let Some(attempt) = core.attempts.get(&row.seq).cloned() else {
                return Ok(Taken::TooLate);
            };
            // Whoever ends the attempt looks under the same lock.
            attempt.abort();
            drop(core);
            attempt.stop(gracefully);
            return Ok(Taken::Yes);
        };
        self.settle_held(queue, row, StatusCode::RequestCanceled, Settled::Aborted)
            .await?;
        self.shared.metrics.event(EventStep::Aborted);
        Ok(Taken::Yes)
    }

    /// Takes away an event that was given up.
    pub(crate) async fn discard(&self, row: &EventRow) -> Result<Taken, QueueError> {
        let status = StatusCode::RequestCanceled;
        match row.state {
            EventState::Dead => {
                let queue = &self.shared.queue;
                queue
                    .settle(row.seq, status, Settled::Delivered, None)
                    .await?;
                Ok(Taken::Yes)
            }
            EventState::Undelivered => match self.hold(row) {
                Some(queue) => {
                    self.settle_held(queue, row, status, Settled::Delivered)
                        .await?;
                    Ok(Taken::Yes)
                }
                None => Ok(Taken::TooLate),
            },
            _ => Ok(Taken::TooLate),
        }
    }

    /// Runs an event again that was given up.
    pub(crate) async fn replay(&self, row: &EventRow) -> Result<Taken, QueueError> {
        let queue = match row.state {
            EventState::Dead => None,
            EventState::Undelivered => match self.hold(row) {
                Some(queue) => Some(queue),
                None => return Ok(Taken::TooLate),
            },
            _ => return Ok(Taken::TooLate),
        };
        let replayed = self.shared.queue.replay(row.seq).await;
        if let Some(queue) = queue {
            self.release(queue, row.seq, replayed.is_ok());
        }
        replayed.map(|()| Taken::Yes)
    }

    /// Keeps an event from being started; none when it is under way.
    fn hold(&self, row: &EventRow) -> Option<FunctionQueueId> {
        let mut core = self.core();
        let queue = core.queue(&row.lane);
        let order = QueuePosition {
            due: row.due,
            seq: row.seq,
        };
        core.lanes.hold(queue, order).then_some(queue)
    }

    async fn settle_held(
        &self,
        queue: FunctionQueueId,
        row: &EventRow,
        status: StatusCode,
        settled: Settled,
    ) -> Result<(), QueueError> {
        let done = self
            .shared
            .queue
            .settle(row.seq, status, settled, None)
            .await;
        self.release(queue, row.seq, done.is_ok());
        done
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

    /// Whether an event of a function's lane runs now.
    pub(crate) fn runs(&self, row: &EventRow) -> bool {
        matches!(row.lane, LaneKey::Function(_)) && self.is_running(row.seq)
    }
}
