//! Reconciles the node with the catalog in the background: installs dependencies, opens and retires pools, and removes
//! unreferenced code.

mod old_trees;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catalog::{Catalog, FunctionChange, Stored};
use model::{
    CodeRef, Function, FunctionKey, FunctionState, Layer, Limits, PendingCode, Runtime, Sha256,
    StatusReason,
};
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, info, warn};
use worker::{Installation, PackageError, PackageStore, StoredAs, Worker};

use crate::builds::Builds;
use crate::driver::Driver;

/// Minimum age of code before the sweep removes it. Younger code may be about to be referenced.
const SWEEP_AGE: Duration = Duration::from_secs(3600);
/// Bytes of an installation's log in a function's status.
const REASON_MAX: usize = 8 << 10;

/// Follows the catalog in the background. Clones share the state.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    catalog: Catalog,
    driver: Driver,
    worker: Arc<Worker>,
    packages: PackageStore,
    builds: Builds,
    limits: Arc<Limits>,
    in_progress: Mutex<HashSet<FunctionKey>>,
    /// Trees that were compiled or are being compiled, with the interpreter's runtime.
    compiled: Mutex<HashSet<(Sha256, Runtime)>>,
}

impl Lifecycle {
    /// Resumes unfinished work of an earlier run, and follows the catalog from then on.
    pub fn start(
        catalog: Catalog,
        driver: Driver,
        worker: Arc<Worker>,
        packages: PackageStore,
        builds: Builds,
        limits: Arc<Limits>,
    ) {
        let shared = Shared {
            catalog,
            driver,
            worker,
            packages,
            builds,
            limits,
            in_progress: Mutex::default(),
            compiled: Mutex::default(),
        };
        let lifecycle = Self {
            shared: Arc::new(shared),
        };
        let mut changes = lifecycle.shared.catalog.subscribe();
        lifecycle.reconcile_all();
        let follower = lifecycle.clone();
        tokio::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(FunctionChange { key, now }) => follower.reconcile(&key, now),
                    // Notifications were dropped under load, so everything is reconciled.
                    Err(RecvError::Lagged(_)) => follower.reconcile_all(),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        let (catalog, packages) = (&lifecycle.shared.catalog, &lifecycle.shared.packages);
        tokio::spawn(old_trees::archive_all(catalog.clone(), packages.clone()));
        tokio::spawn(lifecycle.sweep_periodically());
    }

    fn reconcile_all(&self) {
        // The operator's own account is not in the list.
        let catalog = &self.shared.catalog;
        self.shared.driver.accounts(|| catalog.accounts().len() + 1);
        for stored in self.shared.catalog.all_functions() {
            let key = stored.value.key.clone();
            self.reconcile(&key, Some(stored));
        }
    }

    fn reconcile(&self, key: &FunctionKey, now: Option<Arc<Stored<Function>>>) {
        self.shared
            .driver
            .retire(key, now.as_ref().map(|stored| &stored.value));
        let shared = &self.shared;
        shared.driver.total(key.account, || {
            shared.catalog.total_mb(key.account, &shared.limits)
        });
        shared
            .driver
            .reserve(key, || shared.catalog.function(key)?.value.reserved_mb);
        let Some(stored) = now else { return };
        self.prewarm(&stored.value);
        let published = stored.value.versions.values();
        for code in published.map(|one| &one.code).chain(&stored.value.code) {
            self.compile(&stored.value, &code.tree);
        }
        for layer in &stored.value.config.layers {
            self.compile(&stored.value, &layer.package);
        }
        if stored.value.pending.is_some() {
            self.prepare_pending_code(key.clone());
        }
    }

    /// Starts the zygote that the function will need before its first request.
    fn prewarm(&self, function: &Function) {
        let worker = &self.shared.worker;
        let variables = function.config.environment.keys().map(String::as_str);
        let (account, kind) = (function.key.account, function.kind);
        let prepared = worker.prepare(account, kind, function.runtime, variables);
        if let Err(error) = prepared {
            warn!(function = %function.key.name, %error, "failed to start the zygote of a function ahead of its first request");
        }
    }

    /// Compiles a tree of a function's code or layer, once per tree and interpreter.
    fn compile(&self, function: &Function, tree: &Sha256) {
        let Ok(served) = self.shared.worker.interpreters().serve(function.runtime) else {
            return;
        };
        let (tree, interpreter) = (tree.clone(), served.interpreter);
        let mut compiled = self
            .shared
            .compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !compiled.insert((tree.clone(), interpreter.runtime)) {
            return;
        }
        drop(compiled);
        let (shared, account) = (self.shared.clone(), function.key.account);
        tokio::spawn(async move {
            match shared.builds.compile(account, &tree, &interpreter).await {
                Ok(files) => debug!(%tree, files, "code precompiled"),
                Err(error) if !shared.packages.tree(&tree).exists() => {
                    debug!(%tree, %error, "code was removed before it was precompiled");
                }
                Err(error) => {
                    warn!(%tree, %error, "failed to precompile code; each cold start compiles it")
                }
            }
        });
    }

    /// Prepares a function's pending code, unless that is in progress.
    fn prepare_pending_code(&self, key: FunctionKey) {
        let fresh = self.in_progress().insert(key.clone());
        if !fresh {
            return;
        }
        let lifecycle = self.clone();
        tokio::spawn(async move {
            lifecycle.run_code_update(&key).await;
            lifecycle.in_progress().remove(&key);
            // A change during the run was not picked up by it.
            let stored = lifecycle.shared.catalog.function(&key);
            if stored.is_some_and(|stored| stored.value.pending.is_some()) {
                lifecycle.prepare_pending_code(key);
            }
        });
    }

    fn in_progress(&self) -> std::sync::MutexGuard<'_, HashSet<FunctionKey>> {
        self.shared
            .in_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_code_update(&self, key: &FunctionKey) {
        let Some(stored) = self.shared.catalog.function(key) else {
            return;
        };
        let Some(pending) = stored.value.pending.clone() else {
            return;
        };
        let result = tokio::select! {
            result = self.install(&stored.value, &pending) => result,
            // The result is no longer needed; dropping the installation ends it.
            () = self.wait_until_superseded(key, &pending) => return,
        };
        if result.is_err() && self.shared.worker.is_closing() {
            // The next start resumes it.
            return std::future::pending().await;
        }
        if let Err(PackageError::Io { .. }) = &result {
            warn!(function = %key.name, error = ?result, "failed to prepare a function's code");
        }
        // The function may change meanwhile. Optimistic concurrency: retry while the pending code is the same.
        while let Some(stored) = self.shared.catalog.function(key) {
            if stored.value.pending.as_ref() != Some(&pending) {
                return;
            }
            let new = completed_update(&stored.value, &pending, &result);
            match self
                .shared
                .catalog
                .complete_code_update(&stored, &new)
                .await
            {
                Ok(()) => {
                    return info!(function = %key.name, state = new.state.as_str(), "function code prepared");
                }
                Err(catalog::Error::Conflict) => {}
                Err(error) => {
                    warn!(function = %key.name, %error, "failed to write a function's state; retrying in 1 s");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Waits until a function is deleted or its pending code is replaced.
    async fn wait_until_superseded(&self, key: &FunctionKey, pending: &PendingCode) {
        let mut changes = self.shared.catalog.subscribe();
        loop {
            let stored = self.shared.catalog.function(key);
            if stored.is_none_or(|stored| stored.value.pending.as_ref() != Some(pending)) {
                return;
            }
            loop {
                match changes.recv().await {
                    Ok(change) if change.key != *key => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    // virga is stopping.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }

    async fn install(
        &self,
        function: &Function,
        pending: &PendingCode,
    ) -> Result<(CodeRef, Option<String>), PackageError> {
        let shared = &self.shared;
        let (packages, package) = (shared.packages.clone(), pending.package.clone());
        let unpacked = tokio::task::spawn_blocking(move || packages.unpack(&package)).await;
        unpacked.map_err(|e| PackageError::Refused(e.to_string()))??;
        let code = |tree| CodeRef {
            package: pending.package.clone(),
            size: pending.size,
            tree,
        };
        if !pending.install {
            return Ok((code(pending.package.clone()), None));
        }
        let served = shared.worker.interpreters().serve(function.runtime);
        let served = served.map_err(|e| PackageError::Refused(e.to_string()))?;
        let installation = Installation {
            account: function.key.account,
            package: &pending.package,
            interpreter: &served.interpreter,
            stored_as: StoredAs::Archive,
        };
        let installed = shared.builds.install(&installation).await?;
        Ok((code(installed.tree), Some(installed.log)))
    }

    async fn sweep_periodically(self) {
        loop {
            let lifecycle = self.clone();
            let swept = tokio::task::spawn_blocking(move || lifecycle.sweep()).await;
            match swept {
                Ok(Ok(removed @ 1..)) => info!(removed, "removed unreferenced code"),
                Ok(Err(error)) => warn!(%error, "failed to remove unreferenced code"),
                _ => {}
            }
            tokio::time::sleep(SWEEP_AGE).await;
        }
    }

    fn sweep(&self) -> std::io::Result<usize> {
        let (mut keep, mut merged) = all_referenced(&self.shared.catalog);
        let referenced = |(tree, _): &(Sha256, Runtime)| keep.contains(tree);
        self.shared
            .compiled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(referenced);
        for spec in self.shared.driver.specs_in_use() {
            keep.insert(spec.code.clone());
            keep.extend(spec.layers.iter().cloned());
            merged.push(spec.layers.clone());
        }
        self.shared.packages.sweep(&keep, &merged, SWEEP_AGE)
    }
}

/// Returns the packages and trees that functions and layers reference, and their lists of layers, which name merged
/// trees.
pub fn referenced<'a>(
    functions: impl Iterator<Item = &'a Function>,
    layers: impl Iterator<Item = &'a Layer>,
) -> (HashSet<Sha256>, Vec<Vec<Sha256>>) {
    let mut referenced = HashSet::new();
    let mut merged = Vec::new();
    for layer in layers {
        let versions = layer.versions.values();
        referenced.extend(versions.map(|version| version.package.clone()));
    }
    for function in functions {
        let published = function.versions.values().map(|one| &one.config);
        for config in published.chain([&function.config]) {
            let held: Vec<_> = config
                .layers
                .iter()
                .map(|layer| layer.package.clone())
                .collect();
            referenced.extend(held.iter().cloned());
            merged.push(held);
        }
        let published = function.versions.values().map(|one| &one.code);
        referenced.extend(
            published
                .chain(&function.code)
                .flat_map(|code| [code.package.clone(), code.tree.clone()]),
        );
        referenced.extend(
            function
                .pending
                .iter()
                .map(|pending| pending.package.clone()),
        );
    }
    (referenced, merged)
}

/// Returns the same for all open accounts.
pub fn all_referenced(catalog: &Catalog) -> (HashSet<Sha256>, Vec<Vec<Sha256>>) {
    let (functions, layers) = (catalog.all_functions(), catalog.all_layers());
    referenced(
        functions.iter().map(|stored| &stored.value),
        layers.iter().map(|stored| &stored.value),
    )
}

/// Returns a function after its pending code was prepared, successfully or not.
fn completed_update(
    function: &Function,
    pending: &PendingCode,
    result: &Result<(CodeRef, Option<String>), PackageError>,
) -> Function {
    let mut new = function.clone();
    new.pending = None;
    new.modified = clock::now_ms();
    match result {
        Ok((code, log)) => {
            new.code = Some(code.clone());
            new.state = FunctionState::Active;
            new.revision += 1;
            if let Some(handler) = &pending.handler {
                new.config.handler = handler.clone();
            }
            if pending.publish {
                new.publish(new.config.description.clone(), new.modified);
            }
            new.reasons = log
                .iter()
                .map(|log| reason("InstallDependency", log))
                .collect();
        }
        Err(error) => {
            new.state = if function.code.is_some() {
                FunctionState::UpdateFailed
            } else {
                FunctionState::CreateFailed
            };
            new.reasons = vec![reason("FailedOperation", &error.to_string())];
        }
    }
    new
}

fn reason(code: &str, message: &str) -> StatusReason {
    let mut from = message.len().saturating_sub(REASON_MAX);
    while !message.is_char_boundary(from) {
        from += 1;
    }
    StatusReason {
        code: code.to_owned(),
        message: message[from..].to_owned(),
    }
}
