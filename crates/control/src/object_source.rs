//! The buckets that packages may be in.

use std::sync::Arc;

use bucket::Store;
use model::AccountId;
use traffic::FairSemaphore;

/// Memory for packages that are read from buckets, bytes. It is separate from the memory for bodies, because a request that
/// holds some of that may wait for this; one pool could deadlock.
const MEMORY_BYTES: u64 = 128 << 20;

/// The buckets, if they are served. Clones share them.
#[derive(Clone, Debug)]
pub struct ObjectSource {
    pub(crate) store: Option<Store>,
    /// Shared fairly between accounts.
    pub(crate) memory: Arc<FairSemaphore<AccountId>>,
}

impl ObjectSource {
    /// Creates the access to a store.
    pub fn new(store: Option<Store>) -> Self {
        Self {
            store,
            memory: Arc::new(FairSemaphore::new(MEMORY_BYTES)),
        }
    }

    /// Returns whether buckets are served.
    pub fn is_served(&self) -> bool {
        self.store.is_some()
    }
}
