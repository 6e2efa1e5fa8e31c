//! The state that all connections of one side share: their ledger, the spare ones, and the spooler of bodies.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use telemetry::Metrics;

use super::ledger::{Active, Ledger, LedgerLimits};
use super::spare::Spares;
use super::spooler::Spooler;

/// The state of one side, over handles of its connections.
#[derive(Debug)]
pub(super) struct State<C> {
    ledger: Mutex<Ledger<C>>,
    spares: Mutex<Spares<C>>,
    pub(super) spooler: Spooler,
    pub(super) metrics: Arc<Metrics>,
    begun: Instant,
    /// Seconds since then, as of the last sweep.
    now: AtomicU64,
}

impl<C: Active + Clone> State<C> {
    pub(super) fn new(limits: LedgerLimits, spooler: Spooler, metrics: Arc<Metrics>) -> Self {
        Self {
            ledger: Mutex::new(Ledger::new(limits)),
            spares: Mutex::new(Spares::new()),
            spooler,
            metrics,
            begun: Instant::now(),
            now: AtomicU64::new(0),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger<C>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spares(&self) -> MutexGuard<'_, Spares<C>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the seconds since the start, as of the last [`Self::tick`].
    pub(super) fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Reads the clock. Returns the seconds since the start.
    pub(super) fn tick(&self) -> u64 {
        let now = self.begun.elapsed().as_secs();
        self.now.store(now, Relaxed);
        now
    }
}
