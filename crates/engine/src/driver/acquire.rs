//! Requests wait for an instance.

use std::sync::Arc;

use dispatch::{Reject, Ticket};
use model::Serving;
use tokio::sync::oneshot;

use super::Driver;
use super::assigned::Assigned;
use super::core::{AcquireReply, Core};
use super::types::{AcquireError, AcquireOptions, LivePool};

/// A request that was made: its ticket, and the reply or a channel for it.
type Asked = (
    Ticket,
    Result<AcquireReply, oneshot::Receiver<AcquireReply>>,
);

impl Driver {
    /// Finds the open pool of a version's current revision and waits for one of its instances; `None` if no such pool is
    /// open. Both are one step under the lock. Dropping the future cancels the request.
    pub(crate) async fn acquire_serving(
        &self,
        serving: &Serving<'_>,
        waiting: &mut AcquireOptions,
    ) -> Option<(Arc<LivePool>, Result<Assigned, AcquireError>)> {
        let (live, asked) = self.ask(waiting, |core| core.live(serving))?;
        Some((live, self.answered(asked, waiting).await))
    }

    /// Waits for an instance of a pool. Dropping the future cancels the request.
    pub(crate) async fn acquire(
        &self,
        live: &Arc<LivePool>,
        waiting: &mut AcquireOptions,
    ) -> Result<Assigned, AcquireError> {
        match self.ask(waiting, |_| Some(live.clone())) {
            Some((_, asked)) => self.answered(asked, waiting).await,
            None => Err(AcquireError::Rejected(Reject::Gone)),
        }
    }

    /// Requests an instance of the pool that `find` returns, in one step.
    fn ask(
        &self,
        waiting: &AcquireOptions,
        find: impl FnOnce(&Core) -> Option<Arc<LivePool>>,
    ) -> Option<(Arc<LivePool>, Asked)> {
        let wait = waiting.timeout.unwrap_or(self.shared.settings.wait);
        let now = self.now();
        let deadline = now.after(wait.as_micros() as u64);
        let mut core = self.core();
        let live = find(&core)?;
        let asked = core.request(now, live.pool, deadline);
        self.perform(core);
        Some((live, asked))
    }

    async fn answered(
        &self,
        (ticket, given): Asked,
        waiting: &mut AcquireOptions,
    ) -> Result<Assigned, AcquireError> {
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

    pub(super) fn take(&self, answer: AcquireReply) -> Result<Assigned, AcquireError> {
        match answer {
            AcquireReply::Assigned { slot, first } => Ok(Assigned {
                driver: self.clone(),
                slot,
                stopper: None,
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
