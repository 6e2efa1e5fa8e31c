//! The catalog's typed tables over a store.
//!
//! Keys: `function/<account>/<namespace>/<name>`, `namespace/<account>/<name>`, `layer/<account>/<name>`,
//! `domain/<account>/<name>` and `account/<account>`; who may use them is in [`crate::access`], and the ids of accounts in
//! [`crate::ids`]. What a closed account owns is hidden, and shown to [`Catalog::owned`] alone. The namespace `default`, and every
//! account's settings, exist whether or not they have an entry.

mod bucket;
pub(crate) mod bytes;
mod domain;
mod owned;
mod quota;

pub use bucket::Taken;
pub use owned::Owned;

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
use crate::ids::{ID_MAX, Issued};

use crate::kv::{Kv, KvError, KvEvent, Precondition, Revision};
use crate::view::View;

/// Why a change was refused or failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Someone else changed it first; read it again.
    #[error("it was changed by someone else at the same time")]
    Conflict,
    /// It exists already.
    #[error("it exists already")]
    Exists,
    /// The namespace does not exist.
    #[error("namespace {0} does not exist")]
    NoNamespace(Namespace),
    /// The namespace holds functions.
    #[error("namespace {0} still holds functions; delete them first")]
    NotEmpty(Namespace),
    /// The account owns something.
    #[error("it still has functions, namespaces, layers or custom domains")]
    InUse,
    /// An account's id was given before.
    #[error(
        "{field}: {id} is, or was, an account's; ids are never given twice, so leave it out or name one that was never in use"
    )]
    IdUsed {
        /// Which id.
        field: &'static str,
        /// The id.
        id: u64,
    },
    /// An account's id cannot be.
    #[error("{field}: {} is not allowed; 1 to {ID_MAX} are", given.map_or("the next one".to_owned(), |id| id.to_string()))]
    NoId {
        /// Which id.
        field: &'static str,
        /// The id, where one was named.
        given: Option<u64>,
    },
    /// The account is closed.
    #[error("the account is being deleted, and takes nothing new")]
    Closed,
    /// A quota is used up.
    #[error("the quota of {0} is used up")]
    Quota(u32),
    /// The account's records would be larger than it is allowed.
    #[error(
        "the account's records have {used} bytes, and this needs {more} more; up to {quota} are allowed (the quota catalog_bytes): \
         delete versions, functions or layers first"
    )]
    Bytes {
        /// What they have.
        used: u64,
        /// What the change adds.
        more: u64,
        /// What is allowed.
        quota: u64,
    },
    /// As many versions as there may be.
    #[error("it has its {0} versions already; delete some first")]
    Full(u32),
    /// The store failed.
    #[error(transparent)]
    Store(KvError),
    /// A record cannot be read or written.
    #[error("stored entry {key}: {why}")]
    Format {
        /// The entry.
        key: String,
        /// What is wrong with it.
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

/// A record with the revision that wrote it, which the next change must name.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// The write that it is from.
    pub revision: Revision,
}

/// A function that came, changed or went.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub key: FunctionKey,
    /// As it is now; `None` when it is gone.
    pub now: Option<Arc<Stored<Function>>>,
}

/// Changes that a slow listener may be behind before it has to look at everything again.
const LISTENER_QUEUE: usize = 4096;

/// A handle on the catalog. Clones share it.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    kv: Arc<dyn Kv>,
    view: RwLock<View>,
    applied: watch::Sender<Revision>,
    changes: broadcast::Sender<Change>,
    /// The last change of accounts, keys and roles.
    access: AtomicU64,
    /// Held by changes that look at more than the entry they write: quotas, and emptiness of a namespace.
    counting: Mutex<()>,
    /// The most bytes that an account's records may have; 0 for any number.
    account_bytes: u64,
    /// What writes under way add to each account's.
    growing: std::sync::Mutex<HashMap<AccountId, u64>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Loads everything and follows the store from then on.
    ///
    /// # Errors
    /// The store's, or the first entry that cannot be read.
    pub async fn open(kv: Arc<dyn Kv>) -> Result<Self, Error> {
        Self::open_bounded(kv, 0).await
    }

    /// The same, with the most bytes that an account's records may have; 0 for any number. What is stored already is read,
    /// however much it is.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open_bounded(kv: Arc<dyn Kv>, account_bytes: u64) -> Result<Self, Error> {
        let mut watched = kv.watch().await?;
        let mut view = View::default();
        for entry in watched.snapshot {
            apply(&mut view, &entry.key, Some(&entry.value), entry.revision)?;
        }
        let (changes, _) = broadcast::channel(LISTENER_QUEUE);
        let (applied, _) = watch::channel(view.revision);
        let inner = Arc::new(Inner {
            kv,
            access: AtomicU64::new(view.access.revision),
            view: RwLock::new(view),
            applied,
            changes,
            counting: Mutex::new(()),
            account_bytes,
            growing: std::sync::Mutex::default(),
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

    /// A function, if there is one.
    pub fn function(&self, key: &FunctionKey) -> Option<Arc<Stored<Function>>> {
        self.read(|view| view.function(key).cloned())
    }

    /// The functions of a namespace, by name.
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

    /// All functions of all accounts.
    pub fn all_functions(&self) -> Vec<Arc<Stored<Function>>> {
        self.read(|view| {
            let open = |one: &&Arc<Stored<Function>>| view.access.is_open(one.value.key.account);
            view.functions.values().filter(open).cloned().collect()
        })
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, account: AccountId, namespace: &Namespace) -> bool {
        namespace.is_default() || self.namespace(account, namespace).is_some()
    }

    /// A namespace's record; `default` may have none.
    pub fn namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Option<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| view.namespaces.get(&(account, namespace.clone())).cloned())
    }

    /// An account's namespaces that have a record, by name.
    pub fn namespaces(&self, account: AccountId) -> Vec<Arc<Stored<NamespaceRecord>>> {
        self.read(|view| {
            let own = view
                .namespaces
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, record)| record.clone()).collect()
        })
    }

    /// Hears of every change of a function from now on. A listener that falls behind is told so and reads all.
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    /// Adds a function.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoNamespace`], [`Error::Quota`], or the store's.
    pub async fn create_function(&self, function: &Function, limits: &Limits) -> Result<(), Error> {
        let key = &function.key;
        let _counting = self.counting_for(key.account).await?;
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

    /// Replaces a function that is still as it was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, or the store's.
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

    /// Replaces a function with what came of its code, which no quota holds up: what was begun comes to its end.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not as it was read, or the store's.
    pub async fn settle_function(
        &self,
        old: &Stored<Function>,
        new: &Function,
    ) -> Result<(), Error> {
        let on = Precondition::Revision(old.revision);
        let key = function_key(&old.value.key);
        self.put_numbered(&key, new, on).await.map(drop)
    }

    /// Removes a function that is still as it was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not, or the store's.
    pub async fn delete_function(&self, old: &Stored<Function>) -> Result<(), Error> {
        self.delete(
            &function_key(&old.value.key),
            Precondition::Revision(old.revision),
        )
        .await
    }

    /// Adds a namespace.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Quota`], or the store's.
    pub async fn create_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
        limits: &Limits,
    ) -> Result<(), Error> {
        let _counting = self.counting_for(account).await?;
        if self.has_namespace(account, &record.name) {
            return Err(Error::Exists);
        }
        let others = self
            .namespaces(account)
            .iter()
            .filter(|stored| !stored.value.name.is_default())
            .count();
        // `default` counts and always exists.
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

    /// Replaces a namespace's record; `default` gets its first one.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Conflict`], or the store's.
    pub async fn update_namespace(
        &self,
        account: AccountId,
        record: &NamespaceRecord,
    ) -> Result<(), Error> {
        let _counting = self.counting_for(account).await?;
        let on = match self.namespace(account, &record.name) {
            Some(old) => Precondition::Revision(old.revision),
            None if record.name.is_default() => Precondition::Absent,
            None => return Err(Error::NoNamespace(record.name.clone())),
        };
        self.put(&namespace_key(account, &record.name), record, on)
            .await
    }

    /// Removes an empty namespace.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::NotEmpty`], [`Error::Conflict`], or the store's.
    pub async fn delete_namespace(
        &self,
        account: AccountId,
        namespace: &Namespace,
    ) -> Result<(), Error> {
        let _counting = self.inner.counting.lock().await;
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

    /// A layer, if there ever was one of this name.
    pub fn layer(&self, account: AccountId, name: &LayerName) -> Option<Arc<Stored<Layer>>> {
        self.read(|view| view.layers.get(&(account, name.clone())).cloned())
    }

    /// An account's layers, by name, those without a version included.
    pub fn layers(&self, account: AccountId) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let own = view
                .layers
                .iter()
                .filter(|((owner, _), _)| *owner == account && view.access.is_open(account));
            own.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// All layers of all accounts.
    pub fn all_layers(&self) -> Vec<Arc<Stored<Layer>>> {
        self.read(|view| {
            let open = view.layers.iter();
            let open = open.filter(|((owner, _), _)| view.access.is_open(*owner));
            open.map(|(_, layer)| layer.clone()).collect()
        })
    }

    /// Adds a version to a layer, which it makes if need be, and gives its number.
    ///
    /// # Errors
    /// [`Error::Quota`] of layers, [`Error::Full`] of versions, or the store's.
    pub async fn publish_layer(
        &self,
        account: AccountId,
        name: &LayerName,
        version: LayerVersion,
        limits: &Limits,
    ) -> Result<u64, Error> {
        let _counting = self.counting_for(account).await?;
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

    /// Takes a version out of a layer; one that is not there is no error.
    ///
    /// # Errors
    /// The store's.
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

    pub(crate) async fn counting(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.counting.lock().await
    }

    /// As `counting`, for a change that adds to what an account owns.
    pub(crate) async fn counting_for(
        &self,
        account: AccountId,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, Error> {
        let counting = self.counting().await;
        match self.is_open(account) {
            true => Ok(counting),
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
        let _growth = self.grow(key, bytes.len() as u64)?;
        self.write(key, bytes, on).await.map(drop)
    }

    /// As `put`, but held to no quota; gives the number of the write.
    pub(crate) async fn put_numbered<T: serde::Serialize>(
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

    /// Waits until the view shows a write, so that its writer reads it.
    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        let mut applied = self.inner.applied.subscribe();
        let waited = applied.wait_for(|applied| *applied >= revision).await;
        waited
            .map(drop)
            .map_err(|_| Error::Store(KvError::Unavailable("the watch has ended".into())))
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
            Err(e) => error!(error = %e, "a change of the catalog cannot be read"),
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

fn namespace_key(account: AccountId, namespace: &Namespace) -> String {
    format!("namespace/{account}/{namespace}")
}

/// Brings one entry into the view; tells what it means for functions.
fn apply(
    view: &mut View,
    key: &str,
    value: Option<&[u8]>,
    revision: Revision,
) -> Result<Vec<Change>, Error> {
    let wrong = |why: String| Error::Format {
        key: key.to_owned(),
        why,
    };
    view.revision = view.revision.max(revision);
    let mut parts = key.split('/');
    let (table, account) = (
        parts.next().unwrap_or_default(),
        parts.next().and_then(|a| a.parse().ok()),
    );
    let account = AccountId(account.ok_or_else(|| wrong("no account in its key".into()))?);
    view.sizes
        .note(account, key, value.map(|value| value.len() as u64));
    let first = parts.next().unwrap_or_default();
    let namespace = || Namespace::parse(first).map_err(|e| wrong(e.to_string()));
    match table {
        "function" => {
            let namespace = namespace()?;
            let name = FunctionName::parse(parts.next().unwrap_or_default())
                .map_err(|e| wrong(e.to_string()))?;
            let key = FunctionKey {
                account,
                namespace,
                name,
            };
            match value {
                Some(bytes) => drop(view.put_function(Stored {
                    value: format::decode(bytes).map_err(wrong)?,
                    revision,
                })),
                None => drop(view.remove_function(&key)),
            }
            let now = view.function(&key).cloned();
            Ok(vec![Change { key, now }])
        }
        "ids" => {
            view.counters = value.map(format::decode).transpose().map_err(wrong)?;
            Ok(Vec::new())
        }
        "issued" => {
            match value {
                Some(bytes) => {
                    let value: Issued = format::decode(bytes).map_err(wrong)?;
                    if value.deleted.is_some() {
                        view.access.is_gone(account);
                    }
                    view.issued
                        .insert(account, Arc::new(Stored { value, revision }));
                }
                None => drop(view.issued.remove(&account)),
            }
            Ok(Vec::new())
        }
        "account" => {
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(wrong)?,
                        revision,
                    };
                    view.accounts.insert(account, Arc::new(stored));
                }
                None => drop(view.accounts.remove(&account)),
            }
            Ok(Vec::new())
        }
        "domain" => {
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(wrong)?,
                        revision,
                    };
                    view.domains.insert(first.to_owned(), Arc::new(stored));
                }
                None => drop(view.domains.remove(first)),
            }
            Ok(Vec::new())
        }
        "layer" => {
            let name = LayerName::parse(first).map_err(|e| wrong(e.to_string()))?;
            match value {
                Some(bytes) => {
                    let stored = Stored {
                        value: format::decode(bytes).map_err(wrong)?,
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
                        value: format::decode(bytes).map_err(wrong)?,
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
                return Err(wrong("of no known table".into()));
            };
            applied.map_err(wrong)?;
            if !was_open || view.access.is_open(account) {
                return Ok(Vec::new());
            }
            // To everybody else a closed account's functions are gone.
            let functions = view.functions.keys().filter(|key| key.account == account);
            let gone = |key: &FunctionKey| Change {
                key: key.clone(),
                now: None,
            };
            Ok(functions.map(gone).collect())
        }
    }
}
