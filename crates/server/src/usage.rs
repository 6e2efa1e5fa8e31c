//! The ledger of what ran: each finished invocation counts exactly once.
//!
//! What came of an asynchronous event and its entry are written in one commit, so they are both there or neither is. A call is
//! answered without waiting for a disk: its entry waits in memory, summed up with others, for the next commit, which follows
//! within [`GATHER`]. It is never written twice; a kill in between loses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{FunctionKey, StatusCode, Version};

use crate::telemetry::Record;

/// How long entries of calls are gathered while others were written just before.
pub(crate) const GATHER: Duration = Duration::from_millis(20);
const HOUR_MS: i64 = 3_600_000;

/// Whose use, and when: the hour since the Unix epoch in which it began.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    pub(crate) function: FunctionKey,
    pub(crate) version: Version,
    pub(crate) hour: i64,
}

/// Sums of finished invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
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

impl Totals {
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) account: Account,
    pub(crate) totals: Totals,
}

impl Entry {
    /// What an invocation counts for.
    pub(crate) fn of(record: &Record) -> Self {
        let account = Account {
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
            Totals {
                throttles: 1,
                ..Totals::default()
            }
        } else {
            let billed_ms = record.billed_ms();
            Totals {
                invocations: 1,
                errors: u64::from(record.status != StatusCode::Ok),
                throttles: 0,
                billed_ms,
                mb_ms: billed_ms * u64::from(record.memory.mb()),
                out_bytes: record.answer.len() as u64,
            }
        };
        Self { account, totals }
    }
}

/// Entries that wait for the next commit. Clones share them. Bounded by the number of functions, not of calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    entries: Arc<Mutex<HashMap<Account, Totals>>>,
}

impl Pending {
    /// Adds an entry. Says whether it is the first, so that someone must be told.
    pub(crate) fn add(&self, entry: Entry) -> bool {
        let mut entries = self.lock();
        let first = entries.is_empty();
        entries.entry(entry.account).or_default().add(entry.totals);
        first
    }

    /// Takes all for a commit.
    pub(crate) fn take(&self) -> HashMap<Account, Totals> {
        std::mem::take(&mut *self.lock())
    }

    /// Gives back what could not be written.
    pub(crate) fn give_back(&self, taken: HashMap<Account, Totals>) {
        let mut entries = self.lock();
        for (account, totals) in taken {
            entries.entry(account).or_default().add(totals);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Account, Totals>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    fn gb_seconds_are_memory_times_time_as_scf_bills_them() {
        let totals = Totals {
            mb_ms: 256 * 1760,
            ..Totals::default()
        };
        // Source: the example of SCF's billing page.
        assert_eq!(totals.gb_seconds(), 0.44);
    }
}
