//! The state that all handles to a catalog share.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

use model::AccountId;
use tokio::sync::{Mutex, broadcast, watch};

use crate::kv::{Kv, Revision};
use crate::stored::FunctionChange;
use crate::view::View;

/// The catalog's state.
pub(super) struct Inner {
    pub(super) kv: Arc<dyn Kv>,
    pub(super) view: RwLock<View>,
    pub(super) applied: watch::Sender<Revision>,
    pub(super) changes: broadcast::Sender<FunctionChange>,
    /// Revision of the last change of an account, key or role.
    pub(super) access: AtomicU64,
    /// Serializes changes whose admission depends on other entries: quotas, and the emptiness of a namespace.
    pub(super) admission: Mutex<()>,
    /// Quota on the size of an account's records (bytes); 0 = unlimited.
    pub(super) account_bytes: u64,
    /// Bytes reserved by writes in progress, per account.
    pub(super) reserved_bytes: std::sync::Mutex<HashMap<AccountId, u64>>,
}
