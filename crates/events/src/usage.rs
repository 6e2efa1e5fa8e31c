//! The usage ledger: each finished invocation is counted exactly once.
//!
//! The completion of an asynchronous event and its usage entry are written in one commit. A synchronous call is answered without
//! waiting for the disk: its entry is summed in memory and counted a moment later. Meanwhile a [`UsageJournal`] holds it, so that it
//! survives a kill of virga. The command that counts it names the numbers of its entries, and applies only if the ledger includes
//! the journal up to there. A power failure loses at most the last seconds.

mod entry;
mod journal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::FunctionKey;
use telemetry::FailureLog;
use tracing::warn;

pub use self::entry::{JournalId, UsageEntry, UsageKey, UsageTotals};
pub(crate) use self::journal::UsageJournal;

/// Usage that waits to be counted. Clones share it. Its size is bounded by the number of functions, not of calls.
#[derive(Clone, Debug)]
pub(crate) struct PendingUsage {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    sums: HashMap<UsageKey, UsageTotals>,
    journal: UsageJournal,
    /// Journal number of the last entry in `sums`.
    last: u64,
    /// Highest journal number that the ledger includes.
    counted: u64,
    failure_log: FailureLog,
}

/// Usage that is being counted.
#[derive(Clone, Debug)]
pub(crate) struct UsageBatch {
    pub(crate) journal: JournalId,
    /// The journal number up to which the ledger includes the journal.
    pub(crate) from: u64,
    /// Journal number of the last entry.
    pub(crate) to: u64,
    pub(crate) sums: Vec<UsageEntry>,
}

impl PendingUsage {
    /// Creates it with the entries that the ledger lacks. `counted` is the highest number that the ledger includes.
    pub(crate) fn starting(
        journal: UsageJournal,
        uncounted: Vec<UsageEntry>,
        counted: u64,
    ) -> Self {
        let inner = Inner {
            sums: sum(uncounted),
            last: journal.last(),
            journal,
            counted,
            failure_log: FailureLog::default(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Adds an entry, which from then on survives a kill. Returns true if it is the first, so that it must be seen to.
    pub(crate) fn add(&self, entry: UsageEntry) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let first = inner.sums.is_empty();
        match inner.journal.append(&entry, inner.counted) {
            Ok(number) => {
                inner.last = number;
                inner.failure_log.success();
            }
            // The entry is still counted, unless virga is killed before.
            Err(error) => {
                if let Some(times) = inner.failure_log.failure() {
                    warn!(%error, times, "failed to write the usage journal; a kill before the next commit loses usage");
                }
            }
        }
        add(&mut inner.sums, entry.key, entry.totals);
        first
    }

    /// Takes all entries to count them; `None` if there are none. The batch is given back by one of the next three methods before
    /// another is taken.
    pub(crate) fn take(&self) -> Option<UsageBatch> {
        let mut inner = self.lock();
        if inner.sums.is_empty() {
            return None;
        }
        let sums = std::mem::take(&mut inner.sums).into_iter();
        Some(UsageBatch {
            journal: inner.journal.id(),
            from: inner.counted,
            to: inner.last,
            sums: sums
                .map(|(key, totals)| UsageEntry { key, totals })
                .collect(),
        })
    }

    /// Sets the highest journal number that the ledger includes.
    pub(crate) fn counted(&self, to: u64) {
        self.lock().counted = to;
    }

    /// Takes entries back that were not counted.
    pub(crate) fn restore(&self, batch: UsageBatch) {
        let mut inner = self.lock();
        for UsageEntry { key, totals } in batch.sums {
            add(&mut inner.sums, key, totals);
        }
    }

    /// Takes from the journal what the ledger lacks, because it includes more or less of it than was known.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) fn reload(&self, counted: u64) -> std::io::Result<()> {
        let mut inner = self.lock();
        inner.sums = sum(inner.journal.after(counted)?);
        inner.counted = counted;
        inner.last = inner.journal.last().max(counted);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sum(entries: Vec<UsageEntry>) -> HashMap<UsageKey, UsageTotals> {
    let mut sums = HashMap::new();
    for entry in entries {
        add(&mut sums, entry.key, entry.totals);
    }
    sums
}

fn add(sums: &mut HashMap<UsageKey, UsageTotals>, key: UsageKey, totals: UsageTotals) {
    sums.entry(key).or_default().add(totals);
}

/// A query of the ledger.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// The account whose usage is summed.
    pub account: model::AccountId,
    /// Usage of this function only.
    pub function: Option<FunctionKey>,
    /// First hour, inclusive.
    pub from: i64,
    /// Last hour, inclusive.
    pub to: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gb_seconds_match_scf_billing_example() {
        let totals = UsageTotals {
            mb_ms: 256 * 1760,
            ..UsageTotals::default()
        };
        // Source: the example of SCF's billing page.
        assert_eq!(totals.gb_seconds(), 0.44);
    }
}
