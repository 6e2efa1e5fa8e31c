//! Requests wait for an instance.

use std::time::Duration;

use dispatch::{Reject, Ticket};
use tokio::sync::oneshot;

use super::Driver;
use super::assigned::{Assigned, Stopper};
use super::core::AcquireReply;
use super::types::{AcquireError, AcquireOptions, LivePool};

impl Driver {
    /// Waits for an instance. Dropping the future cancels the request.
    pub async fn acquire(
        &self,
        live: &LivePool,
        waiting: &mut AcquireOptions,
    ) -> Result<Assigned, AcquireError> {
        let wait = waiting.timeout.unwrap_or(self.shared.settings.wait);
        let (ticket, given) = self.ask(live, wait);
        if !matches!(given, Ok(AcquireReply::Rejected(..))) {
            // The next request of the same queue may follow.
            drop(waiting.on_queued.take());
        }
        let waiting = match given {
            Ok(answer) => return self.take(answer),
            Err(waiting) => waiting,
        };
        let mut place = QueuedRequest {
            driver: self,
            ticket,
            waiting: Some(waiting),
        };
        let answer = match place.waiting.as_mut() {
            Some(waiting) => waiting.await,
            None => return Err(AcquireError::Rejected(Reject::Gone)),
        };
        place.waiting = None;
        // The sender lives in the core, which never drops it without an answer.
        self.take(answer.unwrap_or(AcquireReply::Rejected(Reject::Draining, None)))
    }

    fn ask(
        &self,
        live: &LivePool,
        wait: Duration,
    ) -> (
        Ticket,
        Result<AcquireReply, oneshot::Receiver<AcquireReply>>,
    ) {
        let now = self.now();
        let deadline = now.after(wait.as_micros() as u64);
        let mut core = self.core();
        let asked = core.request(now, live.pool, deadline);
        self.perform(core);
        asked
    }

    pub(super) fn take(&self, answer: AcquireReply) -> Result<Assigned, AcquireError> {
        match answer {
            AcquireReply::Assigned { slot, first } => Ok(Assigned {
                driver: self.clone(),
                stopper: Stopper::of(slot.clone()),
                slot,
                first,
                reusable: true,
                short: None,
                returned: false,
            }),
            AcquireReply::Rejected(_, Some(failure)) => Err(AcquireError::Start(failure)),
            AcquireReply::Rejected(reject, None) => Err(AcquireError::Rejected(reject)),
        }
    }
}

/// A queued request. On drop it is cancelled, or the instance that it was just assigned is returned.
struct QueuedRequest<'a> {
    driver: &'a Driver,
    ticket: Ticket,
    waiting: Option<oneshot::Receiver<AcquireReply>>,
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        let Some(mut waiting) = self.waiting.take() else {
            return;
        };
        let now = self.driver.now();
        let mut core = self.driver.core();
        core.cancel(now, self.ticket);
        self.driver.perform(core);
        if let Ok(answer) = waiting.try_recv() {
            drop(self.driver.take(answer));
        }
    }
}
