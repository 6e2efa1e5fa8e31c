//! Deletes accounts with all that they own, everywhere.
//!
//! An account is closed first: from that moment on it serves nobody, nothing can be added to it, and what still runs for it is
//! ended. Then each store gives up what it has of the account, some rows at a time. Each step can be done again: after a crash
//! the whole is gone through once more, and finds what is left. The account's entry goes last, and its ids stay given.

mod inventory;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bucket::store::Store as Objects;
use catalog::{Catalog, FinalUsage, OwnedResources};
use model::{AccountId, Sha256};
use thiserror::Error;
use tracing::{info, warn};
use worker::{PackageStore, Worker};

pub(crate) use self::inventory::AccountInventory;
use crate::clock;
use crate::driver::Driver;
use crate::lifecycle;
use crate::queue::{Queue, QueueError};
use crate::telemetry::{LogStore, LogStoreError, Telemetry};
use crate::usage::{UsageQuery, UsageTotals};

/// How often it is looked whether what ran has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long nothing is tried after a step failed.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a step failed.
#[derive(Debug, Error)]
pub(crate) enum PurgeError {
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Logs(#[from] LogStoreError),
    #[error(transparent)]
    Objects(#[from] bucket::StoreError),
    #[error("packages: {0}")]
    Packages(#[from] std::io::Error),
    #[error("a thread has ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What has something of an account.
pub(crate) struct Stores {
    pub(crate) catalog: Catalog,
    pub(crate) driver: Driver,
    pub(crate) worker: Arc<Worker>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) telemetry: Telemetry,
    pub(crate) logs: LogStore,
    pub(crate) packages: PackageStore,
    pub(crate) objects: Option<Objects>,
}

/// How far the deletion of an account is.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeletionProgress {
    /// What is being deleted.
    pub(crate) step: &'static str,
    /// What was deleted since virga started.
    pub(crate) removed: u64,
    /// Why the last try failed, until the next one.
    pub(crate) last_error: Option<String>,
}

/// A handle. Clones share it.
#[derive(Clone)]
pub(crate) struct Purge {
    shared: Arc<Shared>,
}

struct Shared {
    stores: Stores,
    in_progress: Mutex<HashMap<AccountId, DeletionProgress>>,
}

impl fmt::Debug for Purge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Purge")
    }
}

impl Purge {
    /// Goes on with what an earlier run left undone.
    ///
    /// # Errors
    /// The queue's.
    pub(crate) async fn start(stores: Stores) -> Result<Self, QueueError> {
        let purge = Self {
            shared: Arc::new(Shared {
                stores,
                in_progress: Mutex::default(),
            }),
        };
        let catalog = &purge.shared.stores.catalog;
        let gone = catalog.all_issued().into_iter();
        for issued in gone.filter(|issued| issued.deleted.is_some()) {
            purge.close_stores(issued.id).await?;
        }
        let accounts = catalog.accounts().into_iter();
        for stored in accounts.filter(|stored| stored.value.closed.is_some()) {
            info!(account = %stored.value.name, "goes on deleting an account");
            purge.close_stores(stored.value.id).await?;
            purge.spawn_deletion(stored.value.id);
        }
        Ok(purge)
    }

    /// What an account has.
    pub(crate) async fn inventory(
        &self,
        account: AccountId,
    ) -> Result<AccountInventory, PurgeError> {
        inventory::count(&self.shared.stores, account).await
    }

    /// Closes an account for good, and deletes it with all that it has. Returns once it is closed.
    pub(crate) async fn begin(&self, account: AccountId) -> Result<(), PurgeError> {
        let catalog = &self.shared.stores.catalog;
        catalog.close_account(account, clock::now_ms()).await?;
        self.close_stores(account).await?;
        self.spawn_deletion(account);
        Ok(())
    }

    /// How far a deletion is; none where the account is not being deleted.
    pub(crate) fn progress(&self, account: AccountId) -> Option<DeletionProgress> {
        self.in_progress().get(&account).cloned()
    }

    /// Waits until an account is gone, or the time is over.
    pub(crate) async fn wait(&self, account: AccountId, at_most: Duration) {
        let gone = async {
            while self.in_progress().contains_key(&account) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(at_most, gone).await;
    }

    async fn close_stores(&self, account: AccountId) -> Result<(), QueueError> {
        let stores = &self.shared.stores;
        if let Some(objects) = &stores.objects {
            objects.close_account(account.0);
        }
        stores.logs.close_account(account);
        stores.queue.close(account).await
    }

    /// Deletes an account in a task of its own, unless one is at it.
    fn spawn_deletion(&self, account: AccountId) {
        let begun = DeletionProgress {
            step: "instances",
            ..DeletionProgress::default()
        };
        if self.in_progress().contains_key(&account) {
            return;
        }
        self.in_progress().insert(account, begun);
        let purge = self.clone();
        tokio::spawn(async move {
            while let Err(error) = purge.run(account).await {
                warn!(%account, %error, "an account cannot be deleted yet; it is tried again");
                purge.update(account, |progress| {
                    progress.last_error = Some(error.to_string())
                });
                tokio::time::sleep(RETRY_DELAY).await;
                purge.update(account, |progress| progress.last_error = None);
            }
            purge.in_progress().remove(&account);
            info!(%account, "an account was deleted with all that it had");
        });
    }

    /// Goes through all stores until nothing is left in any.
    async fn run(&self, account: AccountId) -> Result<(), PurgeError> {
        let stores = &self.shared.stores;
        loop {
            self.step(account, "instances");
            while stores.driver.end_account(account) > 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            stores.worker.forget(account);
            self.functions(account).await?;
            // Nothing of it runs, so what there is to record has come, and is written before it is looked for.
            stores.queue.flush().await?;
            let telemetry = stores.telemetry.clone();
            tokio::task::spawn_blocking(move || telemetry.flush()).await?;
            self.step(account, "logs");
            loop {
                let logs = stores.logs.clone();
                let removed =
                    tokio::task::spawn_blocking(move || logs.purge_some(account)).await??;
                if self.add_removed(account, removed) == 0 {
                    break;
                }
            }
            self.record_usage(account).await?;
            self.step(account, "events and usage");
            while self.add_removed(account, stores.queue.purge_some(account).await?) > 0 {}
            if let Some(objects) = &stores.objects {
                self.step(account, "objects");
                while self.add_removed(account, objects.purge_some(account.0).await?) > 0 {}
            }
            self.step(account, "its entry");
            let inventory = self.inventory(account).await?;
            if !inventory.is_empty() || stores.driver.end_account(account) > 0 {
                continue;
            }
            let deleted = stores.catalog.delete_account(account, clock::now_ms());
            match deleted.await {
                // A request that was under way when the account was closed has added something.
                Err(catalog::Error::InUse) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Functions, layers, namespaces and domains, with their packages.
    async fn functions(&self, account: AccountId) -> Result<(), PurgeError> {
        let stores = &self.shared.stores;
        let catalog = &stores.catalog;
        // Its keys and roles first: nobody holds one that is good for anything any more.
        let owned = catalog.owned(account);
        for key in &owned.keys {
            catalog.delete_key(account, &key.value.id).await?;
        }
        for role in &owned.roles {
            catalog.delete_role(account, &role.value.name).await?;
        }
        self.step(account, "packages");
        let closed = catalog
            .account(account)
            .and_then(|stored| stored.value.closed);
        let (packages, catalog_then) = (stores.packages.clone(), catalog.clone());
        let held = owned.clone();
        let removed = tokio::task::spawn_blocking(move || {
            forget_packages(&packages, &catalog_then, &held, closed.unwrap_or_default())
        });
        removed.await??;
        self.step(account, "functions");
        for function in &owned.functions {
            catalog.delete_function(function).await?;
            self.add_removed(account, 1);
        }
        for domain in &owned.domains {
            catalog.delete_domain(domain).await?;
            self.add_removed(account, 1);
        }
        for layer in &owned.layers {
            catalog.purge_layer(account, &layer.value.name).await?;
            self.add_removed(account, 1);
        }
        for space in &owned.namespaces {
            catalog.purge_namespace(account, &space.value.name).await?;
        }
        Ok(())
    }

    /// Keeps the sum of the ledger beside the ids that were given, before the ledger's entries go.
    async fn record_usage(&self, account: AccountId) -> Result<(), PurgeError> {
        let stores = &self.shared.stores;
        let issued = stores.catalog.issued(account);
        if issued.is_none_or(|issued| issued.used.is_some()) {
            return Ok(());
        }
        let query = UsageQuery {
            account,
            function: None,
            from: i64::MIN,
            to: i64::MAX,
        };
        let mut sum = UsageTotals::default();
        for (_, totals) in stores.queue.usage(query).await? {
            sum.add(totals);
        }
        let used = FinalUsage {
            invocations: sum.invocations,
            gb_seconds: sum.gb_seconds(),
            out_bytes: sum.out_bytes,
        };
        Ok(stores.catalog.record_final_usage(account, used).await?)
    }

    fn in_progress(&self) -> MutexGuard<'_, HashMap<AccountId, DeletionProgress>> {
        let in_progress = self.shared.in_progress.lock();
        in_progress.unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, account: AccountId, update: impl FnOnce(&mut DeletionProgress)) {
        if let Some(progress) = self.in_progress().get_mut(&account) {
            update(progress);
        }
    }

    fn step(&self, account: AccountId, step: &'static str) {
        self.update(account, |progress| progress.step = step);
    }

    fn add_removed(&self, account: AccountId, removed: u64) -> u64 {
        self.update(account, |progress| progress.removed += removed);
        removed
    }
}

/// Removes the code of a closed account's functions and layers that nobody else names. Its entries go after it, so that a crash
/// leaves no code that no entry leads to.
fn forget_packages(
    packages: &PackageStore,
    catalog: &Catalog,
    owned: &OwnedResources,
    closed: model::Timestamp,
) -> std::io::Result<()> {
    let functions = owned.functions.iter().map(|stored| &stored.value);
    let layers = owned.layers.iter().map(|stored| &stored.value);
    let (mut digests, merged) = lifecycle::referenced(functions, layers);
    let (kept, kept_merged) = lifecycle::all_referenced(catalog);
    digests.retain(|digest| !kept.contains(digest));
    let kept_merged: HashSet<Vec<Sha256>> = kept_merged.into_iter().collect();
    let mut merged = merged;
    merged.retain(|list| list.len() > 1 && !kept_merged.contains(list));
    let closed = Duration::from_millis(closed.try_into().unwrap_or_default());
    packages.forget(&digests, &merged, SystemTime::UNIX_EPOCH + closed)
}
