//! Deletion of accounts with everything they own, in all stores.
//!
//! The account is closed first: it serves no requests, nothing can be added to it, and its instances are stopped. Then each store
//! removes its rows of the account in small portions. Every step is idempotent, so after a crash the deletion starts over with the
//! remaining data. The account's own entry is removed last. Its ids are never reused.
//!
//! Owns the order in which stores are emptied. Never knows APIs.
#![forbid(unsafe_code)]

mod error;
mod inventory;
mod stores;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use catalog::{Catalog, FinalUsage, OwnedResources};
use engine::lifecycle;
use events::QueueError;
use events::usage::{UsageQuery, UsageTotals};
use model::{AccountId, Sha256};
use telemetry::Sink;
use tracing::{info, warn};
use worker::PackageStore;

pub use self::error::PurgeError;
pub use self::inventory::AccountInventory;
pub use self::stores::Stores;

/// Interval of polling for the end of running instances.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Delay before retrying a failed step.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// The progress of a deletion.
#[derive(Clone, Debug, Default)]
pub struct DeletionProgress {
    /// The kind of data being deleted.
    pub step: &'static str,
    /// Number of items deleted since virga started.
    pub removed: u64,
    /// Error of the last attempt, until the next one starts.
    pub last_error: Option<String>,
}

/// A handle to the deletions. Clones share it.
#[derive(Clone)]
pub struct Purge {
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
    /// Resumes the deletions that an earlier run left unfinished.
    ///
    /// # Errors
    /// The queue failed to close an account.
    pub async fn start(stores: Stores) -> Result<Self, QueueError> {
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
            info!(account = %stored.value.name, "resuming the deletion of an account");
            purge.close_stores(stored.value.id).await?;
            purge.spawn_deletion(stored.value.id);
        }
        Ok(purge)
    }

    /// Counts what an account owns.
    pub async fn inventory(&self, account: AccountId) -> Result<AccountInventory, PurgeError> {
        inventory::count(&self.shared.stores, account).await
    }

    /// Closes an account permanently and starts its deletion. Returns once it is closed.
    pub async fn begin(&self, account: AccountId) -> Result<(), PurgeError> {
        let catalog = &self.shared.stores.catalog;
        catalog.close_account(account, clock::now_ms()).await?;
        self.close_stores(account).await?;
        self.spawn_deletion(account);
        Ok(())
    }

    /// Returns the progress of a deletion, or `None` if the account is not being deleted.
    pub fn progress(&self, account: AccountId) -> Option<DeletionProgress> {
        self.in_progress().get(&account).cloned()
    }

    /// Waits until an account is deleted, for at most `at_most`.
    pub async fn wait(&self, account: AccountId, at_most: Duration) {
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
        stores.log.store().close_account(account);
        stores.queue.close(account).await
    }

    /// Deletes an account in a background task, unless one is running.
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
                warn!(%account, %error, "failed to delete an account; will retry");
                purge.update(account, |progress| {
                    progress.last_error = Some(error.to_string())
                });
                tokio::time::sleep(RETRY_DELAY).await;
                purge.update(account, |progress| progress.last_error = None);
            }
            purge.in_progress().remove(&account);
            info!(%account, "deleted an account with everything it owned");
        });
    }

    /// Deletes the account from all stores until nothing is left in any.
    async fn run(&self, account: AccountId) -> Result<(), PurgeError> {
        let stores = &self.shared.stores;
        loop {
            self.step(account, "instances");
            while stores.driver.end_account(account) > 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            stores.worker.forget(account);
            self.functions(account).await?;
            // No instance runs any more, so flushing makes all remaining records visible to the steps below.
            stores.queue.flush().await?;
            let log = stores.log.clone();
            tokio::task::spawn_blocking(move || log.flush()).await?;
            self.step(account, "logs");
            loop {
                let log = stores.log.clone();
                let removed =
                    tokio::task::spawn_blocking(move || log.store().purge_some(account)).await??;
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
                // A request that was in flight when the account was closed has added something: start over.
                Err(catalog::Error::InUse) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Deletes keys, roles, functions, layers, namespaces and domains, with their packages.
    async fn functions(&self, account: AccountId) -> Result<(), PurgeError> {
        let stores = &self.shared.stores;
        let catalog = &stores.catalog;
        // Keys and roles first, so that no credential of the account stays valid.
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

    /// Stores the account's total usage with its issued ids, before its ledger entries are removed.
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

/// Removes packages of a closed account's functions and layers that no other account references. Catalog entries are removed later, so
/// that a crash leaves no orphaned package.
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
