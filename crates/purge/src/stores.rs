//! The stores that hold data of accounts.

use std::fmt;
use std::sync::Arc;

use bucket::store::Store as Objects;
use catalog::Catalog;
use engine::driver::Driver;
use events::Queue;
use telemetry::InvocationLog;
use worker::{PackageStore, Worker};

/// The stores that hold data of accounts.
pub struct Stores {
    /// The catalog.
    pub catalog: Catalog,
    /// The driver, which ends running invocations.
    pub driver: Driver,
    /// The worker, which ends zygotes.
    pub worker: Arc<Worker>,
    /// The event queue and the usage ledger.
    pub queue: Arc<dyn Queue>,
    /// The log of invocations.
    pub log: InvocationLog,
    /// The packages.
    pub packages: PackageStore,
    /// The object store, if buckets are served.
    pub objects: Option<Objects>,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}
