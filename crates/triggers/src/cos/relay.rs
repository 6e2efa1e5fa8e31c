//! The relay: moves bucket events from the outbox of the object store into the event queue.
//!
//! A change and its notice are one commit of the object store. The relay enqueues the notices in order, and
//! acknowledges them once the queue has made them durable. A notice keeps the request id it got with the change. After
//! a crash it may be delivered again, and the queue deduplicates it by this id. So each change is enqueued exactly
//! once. While the queue is full, notices stay in the outbox (backpressure).
//!
//! If the queue is only full for one account, that account's notices stay in the outbox, in order, and those of others
//! pass them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::ready;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucket::store::Outbox;
use bucket::{Change, ChangeObserver, Notice, StoreError};
use engine::invoke::{Ingest, IngestError};
use events::{EventOrigin, NewEvent};
use model::{AccountId, FunctionKey, Qualifier, RecursionDepth, RequestId};
use serde::{Deserialize, Serialize};
use telemetry::Metrics;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use super::ObjectTriggers;

/// Notices per read.
const BATCH: usize = 256;
/// Delay after a failure of the queue or the outbox.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Version of new stored recipients.
const VERSION: u32 = 1;

/// The receiver of a notice, as stored with it.
#[derive(Serialize, Deserialize)]
struct StoredRecipient {
    v: u32,
    function: FunctionKey,
    qualifier: Qualifier,
    depth: u32,
}

impl ChangeObserver for ObjectTriggers {
    fn notices_of(&self, change: &Change) -> Vec<Notice> {
        let request = |_: &FunctionKey| clock::new_request_id();
        let event = self.event(change, request);
        event.into_iter().map(notice).collect()
    }
}

fn notice(event: NewEvent) -> Notice {
    let address = StoredRecipient {
        v: VERSION,
        function: event.function,
        qualifier: event.qualifier,
        depth: event.depth.0,
    };
    Notice {
        id: event.request.to_string(),
        // Serialization cannot fail.
        to: serde_json::to_string(&address).unwrap_or_default(),
        body: event.event,
    }
}

fn event(notice: Notice) -> Result<NewEvent, String> {
    let address: StoredRecipient = serde_json::from_str(&notice.to).map_err(|e| e.to_string())?;
    if address.v > VERSION {
        return Err(format!(
            "a newer virga wrote it (format {}, this one reads up to {VERSION})",
            address.v
        ));
    }
    Ok(NewEvent {
        request: RequestId::parse(&notice.id).map_err(|e| e.to_string())?,
        function: address.function,
        qualifier: address.qualifier,
        routing_key: BTreeMap::new(),
        source: EventOrigin::Cos,
        depth: RecursionDepth(address.depth),
        trace: None,
        event: notice.body,
    })
}

/// The running relay task.
#[derive(Debug)]
pub struct Relay {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Resumes where the last run stopped.
    pub fn start(outbox: Outbox, ingest: Ingest, metrics: Arc<Metrics>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let relay_task = RelayTask {
            changes: outbox.clone(),
            outbox,
            ingest,
            metrics,
            last_seen: 0,
            delivered: Vec::new(),
            parked: Parked::default(),
            failing: false,
        };
        let task = tokio::spawn(relay_task.run(stopped));
        Self { stop, task }
    }

    /// Stops relaying. The remaining notices are relayed after the next start.
    pub async fn stop(self) {
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

/// Numbers of notices whose account has reached its queue quota.
#[derive(Debug, Default)]
struct Parked {
    accounts: BTreeMap<AccountId, BTreeSet<u64>>,
}

impl Parked {
    /// Returns whether it is the account's only parked notice.
    fn insert(&mut self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.entry(account).or_default();
        numbers.insert(number) && numbers.len() == 1
    }

    fn len(&self) -> usize {
        self.accounts.values().map(BTreeSet::len).sum()
    }

    fn has(&self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.get(&account);
        numbers.is_some_and(|numbers| numbers.contains(&number))
    }

    /// Returns whether an earlier notice of the account is parked.
    fn is_behind(&self, account: AccountId, number: u64) -> bool {
        let numbers = self.accounts.get(&account);
        numbers
            .and_then(BTreeSet::first)
            .is_some_and(|first| *first < number)
    }

    /// Returns whether it was parked.
    fn remove(&mut self, account: AccountId, number: u64) -> bool {
        let Some(numbers) = self.accounts.get_mut(&account) else {
            return false;
        };
        let was = numbers.remove(&number);
        if numbers.is_empty() {
            self.accounts.remove(&account);
        }
        was
    }

    /// Returns the first parked notice of each account.
    fn firsts(&self) -> Vec<(AccountId, u64)> {
        let firsts = self.accounts.iter();
        firsts
            .filter_map(|(account, numbers)| Some((*account, *numbers.first()?)))
            .collect()
    }
}

/// Appends a number to ranges.
fn add(ranges: &mut Vec<RangeInclusive<u64>>, number: u64) {
    match ranges.last_mut() {
        Some(last) if last.end() + 1 == number => *last = *last.start()..=number,
        _ => ranges.push(number..=number),
    }
}

/// Progress of a notice.
enum Step<F> {
    /// Being enqueued, and whether it was parked before.
    Sent(F, bool),
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
            let parked = !self.parked.accounts.is_empty();
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
            if complete && !self.parked.accounts.is_empty() && retry_at <= Instant::now() {
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
    #[expect(
        clippy::too_many_lines,
        reason = "one batch from its submission to its completion"
    )]
    async fn submit(&mut self, batch: Vec<(u64, Notice)>) -> bool {
        let ingest = self.ingest.clone();
        let mut sent = Vec::new();
        let mut refused = None;
        for (number, notice) in batch {
            let id = notice.id.clone();
            let event = match event(notice) {
                Ok(event) => event,
                Err(error) => {
                    error!(
                        notice = id,
                        error, "dropped a bucket event that cannot be parsed"
                    );
                    sent.push((number, None, Step::Done));
                    continue;
                }
            };
            let account = event.function.account;
            if self.parked.is_behind(account, number) {
                sent.push((number, Some(account), self.park(account, number)));
                continue;
            }
            let mut accepted = Box::pin(ingest.accept_unchecked(event));
            // A full queue refuses at once. No later notice may then go first.
            let at_once = tokio::select! {
                biased;
                result = &mut accepted => Some(result),
                () = ready(()) => None,
            };
            let step = match at_once {
                Some(Err(IngestError::Queue(error))) if error.is_account_limit() => {
                    self.park(account, number)
                }
                Some(Err(IngestError::Queue(error))) => {
                    refused = Some(error);
                    break;
                }
                Some(Err(error)) => {
                    warn!(notice = id, %error, "dropped a bucket event");
                    Step::Done
                }
                Some(Ok(())) => Step::Done,
                // The next ones may be submitted meanwhile.
                None => Step::Sent(accepted, self.parked.remove(account, number)),
            };
            sent.push((number, Some(account), step));
        }
        let mut failed = None;
        for (number, account, step) in sent {
            if failed.is_some() {
                // It is retried; the queue deduplicates those it has accepted.
                if let (Step::Sent(_, true), Some(account)) = (step, account) {
                    self.parked.insert(account, number);
                }
                continue;
            }
            let (result, parked_before) = match step {
                Step::Sent(accepted, parked_before) => (accepted.await, parked_before),
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
    /// Leaves a notice in the outbox until the queue has capacity for its account.
    fn park<F>(&mut self, account: AccountId, number: u64) -> Step<F> {
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
    use bytes::Bytes;
    use model::{AccountId, FunctionName, Namespace};

    use super::*;

    #[test]
    fn stored_notice_round_trips() {
        let sent = NewEvent {
            request: RequestId::from_bytes([7; 16]),
            function: FunctionKey {
                account: AccountId(7),
                namespace: Namespace::default(),
                name: FunctionName::parse("fn").expect("a name"),
            },
            qualifier: Qualifier::Version(3),
            routing_key: BTreeMap::new(),
            source: EventOrigin::Cos,
            depth: RecursionDepth(5),
            trace: None,
            event: Bytes::from_static(b"{}"),
        };
        let written = notice(sent.clone());
        let read = event(written.clone()).expect("read");
        assert_eq!(
            (read.request, read.function, read.qualifier, read.depth),
            (sent.request, sent.function, sent.qualifier, sent.depth)
        );
        assert_eq!((read.source, read.event), (EventOrigin::Cos, sent.event));
        let newer = Notice {
            to: written.to.replace("\"v\":1", "\"v\":2"),
            ..written.clone()
        };
        assert!(event(newer).expect_err("refused").contains("newer virga"));
        let nameless = Notice {
            id: "x".into(),
            ..written.clone()
        };
        let lost = Notice {
            to: "{".into(),
            ..written
        };
        assert!(event(nameless).is_err() && event(lost).is_err());
    }
    #[test]
    fn parked_account_keeps_order_and_blocks_no_other() {
        let (one, other) = (AccountId(1), AccountId(2));
        let mut parked = Parked::default();
        assert!(parked.insert(one, 5));
        assert!(!parked.is_behind(one, 5), "the first is tried again");
        assert!(parked.is_behind(one, 6) && !parked.is_behind(other, 6));
        assert!(!parked.insert(one, 6) && parked.insert(other, 8));
        assert!(!parked.insert(one, 6), "a second time it is the same");
        assert_eq!(parked.firsts(), [(one, 5), (other, 8)]);
        assert!(parked.remove(one, 5) && !parked.remove(one, 5));
        assert!(parked.has(one, 6) && !parked.has(other, 6) && parked.len() == 2);
        assert!(!parked.is_behind(one, 6));
        parked.remove(one, 6);
        parked.remove(one, 7);
        assert_eq!(parked.firsts(), [(other, 8)]);
    }

    #[test]
    fn delivered_ranges_exclude_parked_notices() {
        let mut ranges = Vec::new();
        for number in [1, 2, 3, 5, 6, 9] {
            add(&mut ranges, number);
        }
        assert_eq!(ranges, [1..=3, 5..=6, 9..=9]);
    }
}
