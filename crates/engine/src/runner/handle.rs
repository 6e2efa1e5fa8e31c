//! The handle by which an attempt in progress is controlled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::invoke::Stopper;

/// The control handle of an attempt in progress.
#[derive(Debug, Default)]
pub(super) struct AttemptHandle {
    aborted: watch::Sender<bool>,
    running: AtomicBool,
    stopper: Mutex<Option<Stopper>>,
}

impl AttemptHandle {
    /// Cancels the event: it is not started any more and not retried.
    pub(super) fn abort(&self) {
        self.aborted.send_replace(true);
    }

    /// Stops a running function, or asks it to stop if `gracefully`.
    pub(super) fn stop(&self, gracefully: bool) {
        let stopper = self.stopper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stopper) = &*stopper {
            stopper.stop(gracefully);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed)
    }

    /// Follows whether the event is cancelled.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.aborted.subscribe()
    }

    pub(super) fn is_aborted(&self) -> bool {
        *self.aborted.borrow()
    }

    pub(super) fn set_stopper(&self, stopper: Option<Stopper>) {
        self.running.store(stopper.is_some(), Ordering::Relaxed);
        *self.stopper.lock().unwrap_or_else(PoisonError::into_inner) = stopper;
    }
}
