//! The catalog's typed tables over a key-value store.
//!
//! Keys: `function/<account>/<namespace>/<name>`, `namespace/<account>/<name>`, `layer/<account>/<name>`,
//! `domain/<account>/<name>` and `settings/<account>` (an account's concurrency settings). [`crate::access`] has the tables of
//! accounts, API keys and roles, and [`crate::ids`] those of account ids.
//!
//! Resources of a closed account are hidden from every reader except [`Catalog::owned`]. The namespace `default` and the
//! settings of an account exist even without an entry.

mod bucket;
pub(crate) mod bytes;
mod domain;
mod owned;
mod quota;

pub use bucket::TriggerConflict;
pub use owned::OwnedResources;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use model::{
    AccountId, Function, FunctionKey, FunctionName, Layer, LayerName, LayerVersion, Limits,
    Namespace, NamespaceRecord,
};
use thiserror::Error;
use tokio::sync::{Mutex, broadcast, watch};
use tracing::error;

use crate::format;
use crate::ids::{ID_MAX, IssuedIds};

use crate::kv::{Kv, KvError, KvEvent, Precondition, Revision};
use crate::migrate::migrate;
use crate::view::View;

/// An error of a change.
#[derive(Debug, Error)]
pub enum Error {
    /// A concurrent change came first (optimistic concurrency); read the record again and retry.
    #[error("it was changed by another request at the same time; read it again and retry")]
    Conflict,
    /// It already exists.
    #[error("it already exists")]
    Exists,
    /// The namespace does not exist.
    #[error("namespace {0} does not exist")]
    NoNamespace(Namespace),
    /// The namespace holds functions.
    #[error("namespace {0} still holds functions; delete them first")]
    NotEmpty(Namespace),
    /// The account owns resources.
    #[error("it still has functions, namespaces, layers or custom domains")]
    InUse,
    /// An account id was issued before.
    #[error(
        "{field}: {id} belongs, or belonged, to an account, and ids are never reused; omit it, or choose one that was never used"
    )]
    IdUsed {
        /// Field of the id.
        field: &'static str,
        /// The id.
        id: u64,
    },
    /// An account id is out of range.
    #[error("{field}: {} is not allowed; 1 to {ID_MAX} are", given.map_or("the next id".to_owned(), |id| id.to_string()))]
    InvalidId {
        /// Field of the id.
        field: &'static str,
        /// The id, if one was given.
        given: Option<u64>,
    },
    /// The account is closed.
    #[error("the account is being deleted and accepts no new resources")]
    Closed,
    /// A quota is exceeded.
    #[error("the quota of {0} is exceeded")]
    Quota(u32),
    /// The size of the account's records would exceed its quota.
    #[error(
        "the account's records have {used} bytes and this change adds {more}; up to {quota} are allowed (quota catalog_bytes); \
         delete versions, functions or layers first"
    )]
    Bytes {
        /// Current size (bytes).
        used: u64,
        /// Growth by the change (bytes).
        more: u64,
        /// Quota (bytes).
        quota: u64,
    },
    /// The quota on versions is exceeded.
    #[error("it already has the maximum of {0} versions; delete some first")]
    Full(u32),
    /// The store failed.
    #[error(transparent)]
    Store(KvError),
    /// A record cannot be encoded or decoded.
    #[error("stored entry {key}: {why}")]
    Format {
        /// Key of the entry.
        key: String,
        /// The fault.
        why: String,
    },
}

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict { .. } => Self::Conflict,
            other => Self::Store(other),
        }
    }
}

/// A record and its revision, which the next change must name (compare-and-swap).
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// Revision of the last write.
    pub revision: Revision,
}

/// A creation, update or deletion of a function.
#[derive(Clone, Debug)]
pub struct FunctionChange {
    /// The function.
    pub key: FunctionKey,
    /// Current record; `None` if it was deleted.
    pub now: Option<Arc<Stored<Function>>>,
}

/// Changes buffered for a slow subscriber. If it lags further, it must reload everything.
const SUBSCRIBER_BUFFER: usize = 4096;

/// A handle to the catalog. Clones are cheap and share it.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn Kv>,
    view: RwLock<View>,
    applied: watch::Sender<Revision>,
    changes: broadcast::Sender<FunctionChange>,
    /// Revision of the last change of an account, key or role.
    access: AtomicU64,
    /// Serializes changes whose admission depends on other entries: quotas, and the emptiness of a namespace.
    admission: Mutex<()>,
    /// Quota on the size of an account's records (bytes); 0 = unlimited.
    account_bytes: u64,
    /// Bytes reserved by writes in progress, per account.
    reserved_bytes: std::sync::Mutex<HashMap<AccountId, u64>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Loads all entries and follows the store's changes, without a size quota.
    ///
    /// # Errors
    /// An error of the store, or the first entry that cannot be decoded.
    pub async fn open(kv: Arc<dyn Kv>) -> Result<Self, Error> {
        Self::open_bounded(kv, 0).await
    }

    /// Opens the catalog with a quota on the size of an account's records (bytes); 0 = unlimited. Existing records are loaded
    /// even if they exceed the quota.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_bounded(kv: Arc<dyn Kv>, account_bytes: u64) -> Result<Self, Error> {
        migrate(&kv).await?;
        let mut watched = kv.watch().await?;
        let mut view = View::default();
        for entry in watched.snapshot {
            apply(&mut view, &entry.key, Some(&entry.value), entry.revision)?;
        }
        let (changes, _) = broadcast::channel(SUBSCRIBER_BUFFER);
        let (applied, _) = watch::channel(view.revision);
        let inner = Arc::new(Inner {
            kv,
            access: AtomicU64::new(view.access.revision),
            view: RwLock::new(view),
            applied,
            changes,
            admission: Mutex::new(()),
            account_bytes,
            reserved_bytes: std::sync::Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(event) = watched.events.recv().await {
                let Some(inner) = weak.upgrade() else { return };
                inner.follow(&event);
            }
        });
        Ok(Self { inner })
    }

    /// Finds a function.
    pub fn function(&self, key: &FunctionKey) -> Option<Arc<Stored<Function>>> {
        self.read(|view| view.function(key).cloned())
    }

    /// Returns the functions of a namespace, ordered by name.
    pub fn functions(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let named = view.names.get(&(account, namespace.clone()));
            let named = named.filter(|_| view.access.is_open(account));
            let functions = named.into_iter().flat_map(|named| named.values());
            functions.cloned().collect()
        })
    }

    /// Returns the functions of all accounts.
    pub fn all_functions(&self) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let open = |one: &&Arc<Stored<Function>>| view.access.is_open(one.value.key.account);
            view.functions.values().filter(open).cloned().collect()
        })
    }

    /// Returns whether a namespace exists.
    pub fn has_namespace(&self, account: AccountId, namespace: &Namespace) -> bool {
        namespace.is_default() || self.namespace(account, namespace).is_some()
    }

    /// Finds the record of a namespace. `default` may have none.
    pub fn namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Option<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| view.namespaces.get(&(account, namespace.clone())).cloned())
    }

    /// Returns the namespaces of an account that have a record, ordered by name.
    pub fn namespaces(&self, account: AccountId) -> Vec<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| {
            let own = view
                .namespaces
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, record)| record.clone()).collect()
        })
    }

    /// Subscribes to changes of functions. A subscriber that lags receives an error and must reload all functions.
    pub fn subscribe(&self) -> broadcast::Receiver<FunctionChange> {
        self.inner.changes.subscribe()
    }

    /// Creates a function.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoNamespace`], [`Error::Quota`], or an error of the store.
    pub async fn create_function(&self, function: &Function, limits: &Limits) -> Result<(), Error> {
        let key = &function.key;
        let _admission = self.admission_for(key.account).await?;
        if !self.has_namespace(key.account, &key.namespace) {
            return Err(Error::NoNamespace(key.namespace.clone()));
        }
        if self.function(key).is_some() {
            return Err(Error::Exists);
        }
        let count = self.read(|view| {
            view.names
                .get(&(key.account, key.namespace.clone()))
                .map_or(0, std::collections::BTreeMap::len)
        });
        if count >= limits.functions_per_namespace as usize {
            return Err(Error::Quota(limits.functions_per_namespace));
        }
        let put = self
            .put(&function_key(key), function, Precondition::Absent)
            .await;
        put.map_err(|e| {
            if matches!(e, Error::Conflict) {
                Error::Exists
            } else {
                e
            }
        })
    }

    /// Replaces a function (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn update_function(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<(), Error> {
        self.put(
            &function_key(&old.value.key),
            new,
            Precondition::Revision(old.revision),
        )
        .await
    }

    /// Records the result of preparing a function's code. Not subject to the quota, so that accepted work always completes.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn complete_code_update(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<(), Error> {
        let on = Precondition::Revision(old.revision);
        let key = function_key(&old.value.key);
        self.put_unchecked(&key, new, on).await.map(drop)
    }

    /// Deletes a function (compare-and-swap).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was changed since `old` was read, or an error of the store.
    pub async fn delete_function(&self, old: &Stored<Function>) -> Result<(), Error> {
        self.delete(
            &function_key(&old.value.key),
            Precondition::Revision(old.revision),
        )
        .await
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Quota`], or an error of the store.
    pub async fn create_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
        limits: &Limits,
    ) -> Result<(), Error> {
        let _admission = self.admission_for(account).await?;
        if self.has_namespace(account, &record.name) {
            return Err(Error::Exists);
        }
        let others = self
            .namespaces(account)
            .iter()
            .filter(|stored| !stored.value.name.is_default())
            .count();
        // `default` counts toward the quota, with or without a record.
        if others + 1 >= limits.namespaces as usize {
            return Err(Error::Quota(limits.namespaces));
        }
        let put = self
            .put(
                &namespace_key(account, &record.name),
                record,
                Precondition::Absent,
            )
            .await;
        put.map_err(|e| {
            if matches!(e, Error::Conflict) {
                Error::Exists
            } else {
                e
            }
        })
    }

    /// Replaces a namespace's record, or creates that of `default`.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Conflict`], or an error of the store.
    pub async fn update_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
    ) -> Result<(), Error> {
        let _admission = self.admission_for(account).await?;
        let on = match self.namespace(account, &record.name) {
            Some(old) => Precondition::Revision(old.revision),
            None if record.name.is_default() => Precondition::Absent,
            None => return Err(Error::NoNamespace(record.name.clone())),
        };
        self.put(&namespace_key(account, &record.name), record, on)
            .await
    }

    /// Deletes an empty namespace.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NotEmpty`], [`Error::Conflict`], or an error of the store.
    pub async fn delete_namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        let _admission = self.inner.admission.lock().await;
        let Some(old) = self.namespace(account, namespace) else {
            return Err(Error::NoNamespace(namespace.clone()));
        };
        if self.read(|view| view.names.contains_key(&(account, namespace.clone()))) {
            return Err(Error::NotEmpty(namespace.clone()));
        }
        self.delete(
            &namespace_key(account, namespace),
            Precondition::Revision(old.revision),
        )
        .await
    }

    /// Finds a layer, which may have no versions left.
    pub fn layer(&self, account: AccountId, name: &LayerName) -> Option<Arc<Stored<Layer>>> {
        self.read(|view| view.layers.get(&(account, name.clone())).cloned())
    }

    /// Returns the layers of an account, ordered by name, including those without versions.
    pub fn layers(&self, account: AccountId) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let own = view
                .layers
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// Returns the layers of all accounts.
    pub fn all_layers(&self) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let open = view.layers.iter();
            let open = open.filter(|((owner, _), _)| view.access.is_open(*owner));
            open.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// Publishes a version of a layer, creating the layer if necessary, and returns its number. Retries on a conflict.
    ///
    /// # Errors
    /// [`Error::Quota`] for layers, [`Error::Full`] for versions, or an error of the store.
    pub async fn publish_layer(
        &self,
        account: AccountId,
        name: &LayerName,
        version: LayerVersion,
        limits: &Limits,
    ) -> Result<u64, Error> {
        let _admission = self.admission_for(account).await?;
        loop {
            let old = self.layer(account, name);
            let (mut layer, on) = match &old {
                Some(old) => (old.value.clone(), Precondition::Revision(old.revision)),
                None => {
                    let fresh = Layer {
                        name: name.clone(),
                        last_version: 0,
                        versions: std::collections::BTreeMap::new(),
                    };
                    (fresh, Precondition::Absent)
                }
            };
            let used = |layer: &&Arc<Stored<Layer>>| !layer.value.versions.is_empty();
            if layer.versions.is_empty()
                && self.layers(account).iter().filter(used).count() >= limits.layers as usize
            {
                return Err(Error::Quota(limits.layers));
            }
            if layer.versions.len() >= limits.versions_per_layer as usize {
                return Err(Error::Full(limits.versions_per_layer));
            }
            layer.last_version += 1;
            layer.versions.insert(layer.last_version, version.clone());
            match self.put(&layer_key(account, name), &layer, on).await {
                Ok(()) => return Ok(layer.last_version),
                Err(Error::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Deletes a version of a layer. Idempotent; retries on a conflict.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn delete_layer_version(
        &self,
        account: AccountId,
        name: &LayerName,
        number: u64,
    ) -> Result<(), Error> {
        while let Some(old) = self.layer(account, name) {
            let mut layer = old.value.clone();
            if layer.versions.remove(&number).is_none() {
                break;
            }
            let on = Precondition::Revision(old.revision);
            match self.put(&layer_key(account, name), &layer, on).await {
                Err(Error::Conflict) => {}
                done => return done,
            }
        }
        Ok(())
    }

    pub(crate) fn access_counter(&self) -> Revision {
        self.inner.access.load(Ordering::Acquire)
    }

    /// Takes the admission lock.
    pub(crate) async fn admission(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.admission.lock().await
    }

    /// Takes the admission lock to add a resource to an account, which must be open.
    pub(crate) async fn admission_for(
        &self,
        account: AccountId,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let admission = self.admission().await;
        match self.is_open(account) {
            true => Ok(admission),
            false => Err(Error::Closed),
        }
    }

    pub(crate) fn read<T>(&self, run: impl FnOnce(&View) -> T) -> T {
        run(&self
            .inner
            .view
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) async fn put<T: serde::Serialize>(
        &self,
        key: &str,
        record: &T,
        on: Precondition,
    ) -> Result<(), Error> {
        let bytes = encoded(key, record)?;
        let _reservation = self.reserve_bytes(key, bytes.len() as u64)?;
        self.write(key, bytes, on).await.map(drop)
    }

    /// Writes a record without a quota check; returns the revision of the write.
    pub(crate) async fn put_unchecked<T: serde::Serialize>(
        &self,
        key: &str,
        record: &T,
        on: Precondition,
    ) -> Result<Revision, Error> {
        self.write(key, encoded(key, record)?, on).await
    }

    async fn write(&self, key: &str, bytes: Vec<u8>, on: Precondition) -> Result<Revision, Error> {
        let revision = self.inner.kv.put(key, bytes, on).await?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    pub(crate) async fn delete(&self, key: &str, on: Precondition) -> Result<(), Error> {
        let revision = self.inner.kv.delete(key, on).await?;
        self.wait_for(revision).await
    }

    /// Waits until the view contains a write, so that writers read their own writes.
    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        let mut applied = self.inner.applied.subscribe();
        let waited = applied.wait_for(|applied| *applied >= revision).await;
        waited
            .map(drop)
            .map_err(|_| Error::Store(KvError::Unavailable("the watch has stopped".into())))
    }
}

impl Inner {
    fn follow(&self, event: &KvEvent) {
        let applied = {
            let mut view = self
                .view
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let applied = apply(
                &mut view,
                &event.key,
                event.value.as_deref(),
                event.revision,
            );
            self.access.store(view.access.revision, Ordering::Release);
            applied
        };
        match applied {
            Ok(changes) => {
                for change in changes {
                    drop(self.changes.send(change));
                }
            }
            Err(e) => error!(error = %e, "failed to apply a change of the catalog"),
        }
        self.applied.send_replace(event.revision);
    }
}

fn encoded<T: serde::Serialize>(key: &str, record: &T) -> Result<Vec<u8>, Error> {
    format::encode(record).map_err(|e| Error::Format {
        key: key.to_owned(),
        why: e.to_string(),
    })
}

fn function_key(key: &FunctionKey) -> String {
    format!("function/{}/{}/{}", key.account, key.namespace, key.name)
}

fn layer_key(account: AccountId, name: &LayerName) -> String {
    format!("layer/{account}/{name}")
}

pub(crate) fn settings_key(account: AccountId) -> String {
    format!("settings/{account}")
}

fn namespace_key(account: AccountId, namespace: &Namespace) -> String {
    format!("namespace/{account}/{namespace}")
}

/// Applies a change of one entry to the view; returns the resulting changes of functions.
fn apply(
    view: &mut View,
    key: &str,
    value: Option<&[u8]>,
    revision: Revision,
) -> Result<Vec<FunctionChange>, Error> {
    let invalid = |why: String| Error::Format {
        key: key.to_owned(),
        why,
    };
    view.revision = view.revision.max(revision);
    let mut parts = key.split('/');
    let (table, account) = (
        parts.next().unwrap_or_default(),
        parts.next().and_then(|a| a.parse().ok()),
    );
    let account = AccountId(account.ok_or_else(|| invalid("no account id in its key".into()))?);
    view.sizes
        .update(account, key, value.map(|value| value.len() as u64));
    let first = parts.next().unwrap_or_default();
    let namespace = || Namespace::parse(first).map_err(|e| invalid(e.to_string()));
    match table {
        "function" => {
            let namespace = namespace()?;
            let name = FunctionName::parse(parts.next().unwrap_or_default())
                .map_err(|e| invalid(e.to_string()))?;
            let key = FunctionKey {
                account,
                namespace,
                name,
            };
            match value {
                Some(bytes) => drop(view.put_function(Stored {
                    value: format::decode(bytes).map_err(invalid)?,
                    revision,
                })),
                None => drop(view.remove_function(&key)),
            }
            let now = view.function(&key).cloned();
            Ok(vec![FunctionChange { key, now }])
        }
        // Read by `migrate` alone.
        "format" => Ok(Vec::new()),
        "ids" => {
            view.counters = value.map(format::decode).transpose().map_err(invalid)?;
            Ok(Vec::new())
        }
        "issued" => {
            match value {
                Some(bytes) => {
                    let value: IssuedIds = format::decode(bytes).map_err(invalid)?;
                    if value.deleted.is_some() {
                        view.access.mark_deleted(account);
                    }
                    view.issued
                        .insert(account, Arc::new(Stored { value, revision }));
                }
                None => drop(view.issued.remove(&account)),
            }
            Ok(Vec::new())
        }
        "settings" => {
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(invalid)?,
                        revision,
                    };
                    view.settings.insert(account, Arc::new(stored));
                }
                None => drop(view.settings.remove(&account)),
            }
            Ok(Vec::new())
        }
        "domain" => {
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(invalid)?,
                        revision,
                    };
                    view.domains.insert(first.to_owned(), Arc::new(stored));
                }
                None => drop(view.domains.remove(first)),
            }
            Ok(Vec::new())
        }
        "layer" => {
            let name = LayerName::parse(first).map_err(|e| invalid(e.to_string()))?;
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(invalid)?,
                        revision,
                    };
                    view.layers.insert((account, name), Arc::new(stored));
                }
                None => drop(view.layers.remove(&(account, name))),
            }
            Ok(Vec::new())
        }
        "namespace" => {
            let namespace = namespace()?;
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(invalid)?,
                        revision,
                    };
                    view.namespaces
                        .insert((account, namespace), Arc::new(stored));
                }
                None => drop(view.namespaces.remove(&(account, namespace))),
            }
            Ok(Vec::new())
        }
        _ => {
            let was_open = view.access.is_open(account);
            let Some(applied) = view.access.apply(table, account, first, value, revision) else {
                return Err(invalid("unknown table".into()));
            };
            applied.map_err(invalid)?;
            if !was_open || view.access.is_open(account) {
                return Ok(Vec::new());
            }
            // Subscribers see the functions of a closed account as deleted.
            let functions = view.functions.keys().filter(|key| key.account == account);
            let gone = |key: &FunctionKey| FunctionChange {
                key: key.clone(),
                now: None,
            };
            Ok(functions.map(gone).collect())
        }
    }
}
