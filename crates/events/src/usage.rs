//! The usage ledger: each finished invocation is counted exactly once.
//!
//! The completion of an asynchronous event and its usage entry are written in one commit. A synchronous call is answered without
//! waiting for the disk: its entry is summed in memory until the next commit, within [`COMMIT_INTERVAL`]. Meanwhile a
//! [`UsageJournal`] holds it, so that it survives a kill of virga. A power failure loses at most the last second.

mod journal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{FailureKind, FunctionKey, Version};
use serde::{Deserialize, Serialize};
use telemetry::{FailureLog, Record};
use tracing::warn;

pub(crate) use self::journal::UsageJournal;

/// Minimum interval between commits that contain only usage of synchronous calls. A commit takes up to 2 ms of CPU time, however
/// many entries it has.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
const HOUR_MS: i64 = 3_600_000;

/// Key of a ledger row: a function's version and the hour since the Unix epoch in which the invocation started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UsageKey {
    /// The function.
    pub function: FunctionKey,
    /// The version that ran.
    pub version: Version,
    /// Hours since the Unix epoch.
    pub hour: i64,
}

/// Sums of finished invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Invocations that ran, successful or not.
    pub invocations: u64,
    /// Invocations that ran and failed.
    pub errors: u64,
    /// Invocations that were throttled because no instance was available.
    pub throttles: u64,
    /// Billed duration in milliseconds, rounded up per invocation.
    pub billed_ms: u64,
    /// Billed duration times configured memory, MB × ms.
    pub(crate) mb_ms: u64,
    /// Bytes of responses.
    pub out_bytes: u64,
}

impl UsageTotals {
    /// Adds other sums.
    pub fn add(&mut self, other: Self) {
        self.invocations += other.invocations;
        self.errors += other.errors;
        self.throttles += other.throttles;
        self.billed_ms += other.billed_ms;
        self.mb_ms += other.mb_ms;
        self.out_bytes += other.out_bytes;
    }

    /// Returns the use in GB-seconds, SCF's billing unit.
    pub fn gb_seconds(&self) -> f64 {
        self.mb_ms as f64 / 1024.0 / 1000.0
    }
}

/// The usage of one finished invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// The row to which it is added.
    #[serde(rename = "account")]
    pub key: UsageKey,
    /// The sums to add.
    pub totals: UsageTotals,
}

impl UsageEntry {
    /// Returns the usage of an invocation.
    pub fn of(record: &Record) -> Self {
        let key = UsageKey {
            function: record.function.clone(),
            version: record.version,
            hour: record.started.div_euclid(HOUR_MS),
        };
        let throttled = record.failure.is_some_and(FailureKind::is_throttled);
        let totals = if throttled {
            UsageTotals {
                throttles: 1,
                ..UsageTotals::default()
            }
        } else {
            let billed_ms = record.billed_ms();
            UsageTotals {
                invocations: 1,
                errors: u64::from(record.failure.is_some()),
                throttles: 0,
                billed_ms,
                mb_ms: billed_ms * u64::from(record.memory.mb()),
                out_bytes: record.answer.len() as u64,
            }
        };
        Self { key, totals }
    }
}

/// Usage that waits for the next commit. Clones share it. Its size is bounded by the number of functions, not of calls.
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
    committed: u64,
    failure_log: FailureLog,
}

/// Usage taken for one commit.
#[derive(Debug)]
pub(crate) struct UsageBatch {
    pub(crate) sums: HashMap<UsageKey, UsageTotals>,
    /// Journal number of its last entry.
    pub(crate) last: u64,
}

impl PendingUsage {
    /// Creates it with the entries that a kill kept from the ledger. `committed` is the highest number that the ledger includes.
    pub(crate) fn starting(
        journal: UsageJournal,
        uncommitted: Vec<UsageEntry>,
        committed: u64,
    ) -> Self {
        let last = journal.last();
        let mut sums = HashMap::new();
        for entry in uncommitted {
            add(&mut sums, entry.key, entry.totals);
        }
        let inner = Inner {
            sums,
            journal,
            last,
            committed,
            failure_log: FailureLog::default(),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Adds an entry, which from then on survives a kill. Returns true if it is the first, so that the writer must be woken.
    pub(crate) fn add(&self, entry: UsageEntry) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let first = inner.sums.is_empty();
        match inner.journal.append(&entry, inner.committed) {
            Ok(number) => {
                inner.last = number;
                inner.failure_log.success();
            }
            // The entry still goes into the next commit.
            Err(error) => {
                if let Some(times) = inner.failure_log.failure() {
                    warn!(%error, times, "failed to write the usage journal; a kill before the next commit loses usage");
                }
            }
        }
        add(&mut inner.sums, entry.key, entry.totals);
        first
    }

    /// Takes all entries for a commit.
    pub(crate) fn take(&self) -> UsageBatch {
        let mut inner = self.lock();
        UsageBatch {
            sums: std::mem::take(&mut inner.sums),
            last: inner.last,
        }
    }

    /// Sets the highest journal number that the ledger includes after a commit.
    pub(crate) fn committed(&self, last: u64) {
        self.lock().committed = last;
    }

    /// Returns entries whose commit failed.
    pub(crate) fn restore(&self, gathered: UsageBatch) {
        let mut inner = self.lock();
        for (key, totals) in gathered.sums {
            add(&mut inner.sums, key, totals);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().sums.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
