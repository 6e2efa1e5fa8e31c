//! Limits of a store.

use std::time::Duration;

/// Limits of the store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Maximum size of all objects and the index, in bytes.
    pub budget_bytes: u64,
    /// Maximum number of buckets per account.
    pub buckets_per_account: usize,
    /// Maximum size of a request body.
    pub body_bytes: u64,
    /// Maximum number of incomplete uploads per bucket.
    pub uploads_per_bucket: u64,
    /// Capacity of the outbox. An account may have as many pending notices as it leaves free.
    pub notices: u64,
    /// Pending notices that every account may have, even if the outbox is full.
    pub guaranteed_notices: u64,
    /// Simulated duration of a restore from an archive.
    pub restore_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            budget_bytes: 100 << 30,
            buckets_per_account: 200,
            body_bytes: 5 << 30,
            uploads_per_bucket: 10_000,
            notices: 200_000,
            guaranteed_notices: 256,
            restore_after: Duration::from_secs(1),
        }
    }
}
