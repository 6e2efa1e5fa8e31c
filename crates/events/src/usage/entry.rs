//! The rows of the usage ledger, and what one invocation adds to them.

use model::{FailureKind, FunctionKey, Version};
use serde::{Deserialize, Serialize};
use telemetry::Record;

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
    pub mb_ms: u64,
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

/// Identifies a journal in the ledger. A node that is restored or copied begins a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalId(pub [u8; 16]);
