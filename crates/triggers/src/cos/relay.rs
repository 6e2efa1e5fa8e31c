//! The relay: moves bucket events from the outbox of the object store into the event queue.
//!
//! A change and its notice are one commit of the object store. The relay enqueues the notices in order, and
//! acknowledges them once the queue has made them durable. A notice keeps the request id it got with the change. After
//! a crash it may be delivered again, and the queue deduplicates it by this id. So each change is enqueued exactly
//! once. While the queue is full, notices stay in the outbox (backpressure).
//!
//! If the queue is only full for one account, that account's notices stay in the outbox, in order, and those of others
//! pass them.

use std::fmt::Display;
use std::future::ready;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket::store::Outbox;
use bucket::{Notice, StoreError};
use engine::invoke::{Ingest, IngestError};
use events::QueueError;
use model::AccountId;
use telemetry::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::super::trigger::{Context, StartError, Trigger};
use super::notice::event;
use super::parked::Parked;

/// Notices per read.
const BATCH: usize = 256;
/// Delay after a failure of the queue or the outbox.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The running relay task.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Trigger for Relay {
    const NAME: &'static str = "bucket triggers";

    /// Resumes where the last run stopped, if there are buckets.
    async fn start(context: &Context) -> Result<Option<Self>, StartError> {
        let Some(objects) = &context.objects else {
            return Ok(None);
        };
        let relay_task = RelayTask {
            changes: objects.outbox(),
            outbox: objects.outbox(),
            ingest: context.ingest.clone(),
            metrics: context.metrics.clone(),
            last_seen: 0,
            delivered: Vec::new(),
            parked: Parked::default(),
            failing: false,
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(relay_task.run(stopped));
        Ok(Some(Self { stop, task }))
    }

    /// Stops relaying. The remaining notices are relayed after the next start.
    async fn stop(self) {
        let _ = self.stop.send(());
        if self.task.await.is_err() {
            error!("the task that relays bucket events panicked");
        }
    }
}

struct RelayTask {
    outbox: Outbox,
    /// A second handle, to wait for new notices.
    changes: Outbox,
    ingest: Ingest,
    metrics: Arc<Metrics>,
    /// Number of the last notice read.
    last_seen: u64,
    /// Numbers of enqueued notices that are not acknowledged in the outbox yet.
    delivered: Vec<RangeInclusive<u64>>,
    parked: Parked,
    /// Whether the last attempt failed.
    failing: bool,
}

/// Appends a number to ranges.
fn add(ranges: &mut Vec<RangeInclusive<u64>>, number: u64) {
    match ranges.last_mut() {
        Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
        _ => ranges.push(number..=number),
    }
}

/// The queue's pending answer about an event.
type Accepting = Pin<Box<dyn Future<Output = Result<(), IngestError>> + Send>>;

/// A notice of a batch.
struct Submitted {
    number: u64,
    /// `None` if the notice cannot be parsed.
    account: Option<AccountId>,
    step: Step,
}

/// Progress of a notice.
enum Step {
    /// Being enqueued, and whether it was parked before.
    Sent(Accepting, bool),
    /// Enqueued, or dropped as invalid.
    Done,
    Parked,
}

impl RelayTask {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut retry_at = Instant::now();
        loop {
            let last_seen = self.last_seen;
            let delivered = std::mem::take(&mut self.delivered);
            let parked = !self.parked.is_empty();
            let within = parked.then(|| retry_at.saturating_duration_since(Instant::now()));
            // Acknowledge enqueued notices while waiting for the next ones.
            let forget = async {
                let forgot = match delivered.is_empty() {
                    false => self.outbox.forget(delivered.clone()).await,
                    true => Ok(()),
                };
                self.metrics.notices(self.outbox.len());
                forgot
            };
            let fetch = next(&self.outbox, &mut self.changes, last_seen, within);
            let both = async { tokio::join!(forget, fetch) };
            let (forgot, batch) = tokio::select! {
                both = both => both,
                _ = &mut stopped => {
                    self.delivered = delivered;
                    break;
                }
            };
            if let Err(error) = &forgot {
                warn!(%error, "failed to acknowledge bucket events in the outbox; retrying");
                self.delivered = delivered;
            }
            let mut complete = match batch {
                Ok(batch) => self.submit(batch).await,
                Err(error) => {
                    self.report_failure(&error);
                    false
                }
            };
            if complete && !self.parked.is_empty() && retry_at <= Instant::now() {
                let before = self.parked.len();
                complete = self.retry_parked().await;
                // If some were enqueued, continue without a delay.
                if self.parked.len() == before {
                    retry_at = Instant::now() + RETRY_DELAY;
                }
            }
            if !complete || forgot.is_err() {
                tokio::select! {
                    () = tokio::time::sleep(RETRY_DELAY) => {}
                    _ = &mut stopped => break,
                }
            }
        }
        if !self.delivered.is_empty()
            && let Err(error) = self.outbox.forget(self.delivered).await
        {
            warn!(%error, "failed to acknowledge bucket events; they will be redelivered at the next start, and the queue deduplicates them");
        }
    }

    /// Retries the parked notices of each account. Returns false if the queue fails.
    async fn retry_parked(&mut self) -> bool {
        for (account, first) in self.parked.firsts() {
            let batch = match self.outbox.next(first.saturating_sub(1), BATCH).await {
                Ok(batch) => batch,
                Err(error) => {
                    self.report_failure(&error);
                    return false;
                }
            };
            // It was deleted with its bucket.
            if batch.first().is_none_or(|(number, _)| *number != first) {
                self.parked.remove(account, first);
            }
            let own = batch
                .into_iter()
                .filter(|(number, _)| self.parked.has(account, *number));
            let own = own.collect();
            if !self.submit(own).await {
                return false;
            }
        }
        true
    }

    /// Enqueues notices until the queue refuses one. They are submitted in order and awaited together. Returns false
    /// if the queue fails.
    async fn submit(&mut self, batch: Vec<(u64, Notice)>) -> bool {
        let (submitted, refused) = self.enqueue(batch).await;
        let failed = self.complete(submitted).await;
        if let Some(error) = failed {
            self.report_failure(&error);
            return false;
        }
        if let Some(error) = refused {
            self.report_failure(&error);
            return false;
        }
        if std::mem::take(&mut self.failing) {
            info!("bucket events are relayed again");
        }
        true
    }

    /// Passes notices to the queue, in order. If it refuses one, the later ones are left out.
    async fn enqueue(&mut self, batch: Vec<(u64, Notice)>) -> (Vec<Submitted>, Option<QueueError>) {
        let mut submitted = Vec::new();
        for (number, notice) in batch {
            let (account, step) = match self.enqueue_one(number, notice).await {
                Ok(progress) => progress,
                Err(refused) => return (submitted, Some(refused)),
            };
            submitted.push(Submitted {
                number,
                account,
                step,
            });
        }
        (submitted, None)
    }

    async fn enqueue_one(
        &mut self,
        number: u64,
        notice: Notice,
    ) -> Result<(Option<AccountId>, Step), QueueError> {
        let id = notice.id.clone();
        let event = match event(notice) {
            Ok(event) => event,
            Err(error) => {
                error!(
                    notice = id,
                    error, "dropped a bucket event that cannot be parsed"
                );
                return Ok((None, Step::Done));
            }
        };
        let account = event.function.account;
        if self.parked.is_behind(account, number) {
            return Ok((Some(account), self.park(account, number)));
        }
        let mut accepting: Accepting = Box::pin(self.ingest.accept_unchecked(event));
        // A full queue refuses at once. No later notice may then go first.
        let at_once = tokio::select! {
            biased;
            result = &mut accepting => Some(result),
            () = ready(()) => None,
        };
        let step = match at_once {
            Some(Err(IngestError::Queue(error))) if error.is_account_limit() => {
                self.park(account, number)
            }
            Some(Err(IngestError::Queue(error))) => return Err(error),
            Some(Err(error)) => {
                warn!(notice = id, %error, "dropped a bucket event");
                Step::Done
            }
            Some(Ok(())) => Step::Done,
            // The next ones may be submitted meanwhile.
            None => Step::Sent(accepting, self.parked.remove(account, number)),
        };
        Ok((Some(account), step))
    }

    /// Waits until submitted notices are durable. Returns the first failure of the queue; later notices are then
    /// retried, and the queue deduplicates those that it has accepted.
    async fn complete(&mut self, submitted: Vec<Submitted>) -> Option<IngestError> {
        let mut failed = None;
        for Submitted {
            number,
            account,
            step,
        } in submitted
        {
            if failed.is_some() {
                if let (Step::Sent(_, true), Some(account)) = (step, account) {
                    self.parked.insert(account, number);
                }
                continue;
            }
            let (result, parked_before) = match step {
                Step::Sent(accepting, parked_before) => (accepting.await, parked_before),
                Step::Done => (Ok(()), false),
                Step::Parked => {
                    self.last_seen = self.last_seen.max(number);
                    continue;
                }
            };
            match (result, account) {
                (Ok(()), account) => {
                    account.map(|account| self.parked.remove(account, number));
                    add(&mut self.delivered, number);
                }
                (Err(IngestError::Queue(error)), Some(account)) if error.is_account_limit() => {
                    self.parked.insert(account, number);
                }
                (Err(error), account) => {
                    if let Some(account) = account.filter(|_| parked_before) {
                        self.parked.insert(account, number);
                    }
                    failed = Some(error);
                    continue;
                }
            }
            self.last_seen = self.last_seen.max(number);
        }
        failed
    }

    /// Leaves a notice in the outbox until the queue has capacity for its account.
    fn park(&mut self, account: AccountId, number: u64) -> Step {
        if self.parked.insert(account, number) {
            debug!(%account, "throttled an account's bucket events: its queue quota is used up");
        }
        Step::Parked
    }

    fn report_failure(&mut self, error: &dyn Display) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(%error, "failed to relay bucket events; retrying");
        }
    }
}

/// Waits for the next notices. Returns none after a timeout.
async fn next(
    outbox: &Outbox,
    changes: &mut Outbox,
    after: u64,
    within: Option<Duration>,
) -> Result<Vec<(u64, Notice)>, StoreError> {
    loop {
        let batch = outbox.next(after, BATCH).await?;
        if !batch.is_empty() {
            return Ok(batch);
        }
        match within {
            None => changes.changed().await,
            Some(within) => {
                let came = tokio::time::timeout(within, changes.changed()).await;
                if came.is_err() {
                    return Ok(batch);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivered_ranges_exclude_parked_notices() {
        let mut ranges = Vec::new();
        for number in [1, 2, 3, 5, 6, 9] {
            add(&mut ranges, number);
        }
        assert_eq!(ranges, [1..=3, 5..=6, 9..=9]);
    }
}
