//! The ledger of what ran: each finished invocation counts exactly once.
//!
//! What came of an asynchronous event and its entry are written in one commit, so they are both there or neither is. A call is
//! answered without waiting for a disk: its entry waits in memory, summed up with others, for the next commit, which follows
//! within [`COMMIT_INTERVAL`]. A [`UsageJournal`] holds it meanwhile: when virga is killed in between, it is counted at the next start. What a
//! machine loses with its power is what its disk had not been told, the last second at most.

mod journal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{FunctionKey, StatusCode, Version};
use serde::{Deserialize, Serialize};
use tracing::warn;

pub(crate) use self::journal::UsageJournal;
use crate::failure_log::FailureLog;
use crate::telemetry::Record;

/// How long entries of calls are gathered while others were written just before. A commit takes up to 2 ms of a processor, in one
/// piece, however many there are.
pub(crate) const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
const HOUR_MS: i64 = 3_600_000;

/// Whose use, and when: the hour since the Unix epoch in which it began.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct UsageKey {
    pub(crate) function: FunctionKey,
    pub(crate) version: Version,
    pub(crate) hour: i64,
}

/// Sums of finished invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageTotals {
    /// Those that ran, whatever came of it.
    pub(crate) invocations: u64,
    /// Of them, those that failed.
    pub(crate) errors: u64,
    /// Those that did not run because no instance could be had.
    pub(crate) throttles: u64,
    /// Time that is billed, milliseconds; each invocation is rounded up to a whole one.
    pub(crate) billed_ms: u64,
    /// That time, each multiplied with the function's memory, MB times milliseconds.
    pub(crate) mb_ms: u64,
    /// Bytes of answers.
    pub(crate) out_bytes: u64,
}

impl UsageTotals {
    pub(crate) fn add(&mut self, other: Self) {
        self.invocations += other.invocations;
        self.errors += other.errors;
        self.throttles += other.throttles;
        self.billed_ms += other.billed_ms;
        self.mb_ms += other.mb_ms;
        self.out_bytes += other.out_bytes;
    }

    /// SCF's unit: memory in GB times seconds.
    pub(crate) fn gb_seconds(&self) -> f64 {
        self.mb_ms as f64 / 1024.0 / 1000.0
    }
}

/// One finished invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsageEntry {
    #[serde(rename = "account")]
    pub(crate) key: UsageKey,
    pub(crate) totals: UsageTotals,
}

impl UsageEntry {
    /// What an invocation counts for.
    pub(crate) fn of(record: &Record) -> Self {
        let key = UsageKey {
            function: record.function.clone(),
            version: record.version,
            hour: record.started.div_euclid(HOUR_MS),
        };
        let throttled = matches!(
            record.status,
            StatusCode::ResourceLimitReached
                | StatusCode::ResourceLimit
                | StatusCode::InsufficientResources
        );
        let totals = if throttled {
            UsageTotals {
                throttles: 1,
                ..UsageTotals::default()
            }
        } else {
            let billed_ms = record.billed_ms();
            UsageTotals {
                invocations: 1,
                errors: u64::from(record.status != StatusCode::Ok),
                throttles: 0,
                billed_ms,
                mb_ms: billed_ms * u64::from(record.memory.mb()),
                out_bytes: record.answer.len() as u64,
            }
        };
        Self { key, totals }
    }
}

/// Entries that wait for the next commit. Clones share them. Bounded by the number of functions, not of calls.
#[derive(Clone, Debug)]
pub(crate) struct PendingUsage {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    sums: HashMap<UsageKey, UsageTotals>,
    journal: UsageJournal,
    /// The number in the journal of the last entry in `sums`.
    last: u64,
    /// The number up to which the ledger counts.
    committed: u64,
    failure_log: FailureLog,
}

/// What is taken for a commit.
#[derive(Debug)]
pub(crate) struct UsageBatch {
    pub(crate) sums: HashMap<UsageKey, UsageTotals>,
    /// The number in the journal of the last entry in it.
    pub(crate) last: u64,
}

impl PendingUsage {
    /// With what the ledger lacks, which counts up to a number.
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

    /// Adds an entry, which from now on survives this process. Says whether it is the first, so that someone must be told.
    pub(crate) fn add(&self, entry: UsageEntry) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let first = inner.sums.is_empty();
        match inner.journal.append(&entry, inner.committed) {
            Ok(number) => {
                inner.last = number;
                inner.failure_log.success();
            }
            // It still counts with the next commit.
            Err(error) => {
                if let Some(times) = inner.failure_log.failure() {
                    warn!(%error, times, "the journal of usage cannot be written; a kill before the next commit loses entries");
                }
            }
        }
        add(&mut inner.sums, entry.key, entry.totals);
        first
    }

    /// Takes all for a commit.
    pub(crate) fn take(&self) -> UsageBatch {
        let mut inner = self.lock();
        UsageBatch {
            sums: std::mem::take(&mut inner.sums),
            last: inner.last,
        }
    }

    /// Up to which number the ledger counts after a commit.
    pub(crate) fn committed(&self, last: u64) {
        self.lock().committed = last;
    }

    /// Gives back what could not be written.
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

/// Which entries are wanted.
#[derive(Clone, Debug)]
pub(crate) struct UsageQuery {
    pub(crate) account: model::AccountId,
    pub(crate) function: Option<FunctionKey>,
    /// From this hour on.
    pub(crate) from: i64,
    /// Up to and with this hour.
    pub(crate) to: i64,
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
