//! Builds: dependency installation and compilation.
//!
//! While a build runs, its memory counts towards its account's quota and the node's capacity, by the same admission
//! rules as for instances (`driver::build`). A build waits for capacity for as long as it may run, and then fails. An
//! account has one build at a time.

mod account_locks;

use std::sync::Arc;
use std::time::Duration;

use model::{AccountId, Sha256};
use tokio::sync::Semaphore;
use worker::{InstallSettings, Installation, Installed, Interpreter, PackageError, Worker};

use self::account_locks::AccountLocks;
use crate::driver::{Build, Driver};
use crate::index_proxy::IndexProxy;

/// Most trees that are read at a time.
const READS_MAX: usize = 2;

/// A handle. Clones share it.
#[derive(Clone, Debug)]
pub struct Builds {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    driver: Driver,
    worker: Arc<Worker>,
    settings: BuildSettings,
    account_locks: AccountLocks,
    /// Bounds how many trees are read at a time.
    reads: Semaphore,
}

/// Settings of builds.
#[derive(Debug)]
pub struct BuildSettings {
    /// The settings of package managers.
    pub install: InstallSettings,
    /// The proxy of an index that needs credentials.
    pub index: Option<IndexProxy>,
    /// Memory of a build, MB.
    pub memory_mb: u64,
}

impl Builds {
    /// Creates the handle.
    pub fn new(driver: Driver, worker: Arc<Worker>, settings: BuildSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                driver,
                worker,
                settings,
                account_locks: AccountLocks::default(),
                reads: Semaphore::new(READS_MAX),
            }),
        }
    }

    /// Installs the dependencies of an unpacked package. Dropping the future ends all processes of the build.
    ///
    /// # Errors
    /// [`PackageError::Refused`] if the package manager fails, or no capacity becomes free.
    pub async fn install(
        &self,
        installation: &Installation<'_>,
    ) -> Result<Installed, PackageError> {
        let shared = &*self.shared;
        let account = installation.account;
        let _lock = shared.account_locks.take(account).await;
        let (timeout, memory_mb) = (shared.settings.install.timeout, shared.settings.memory_mb);
        let worker = &shared.worker;
        let build = match worker.has_requirements(installation) {
            true => Some(self.reserve(account, memory_mb, timeout).await?),
            false => None,
        };
        let index = shared.settings.index.as_ref();
        let access = index.map(IndexProxy::access).transpose();
        let access = access.map_err(|source| PackageError::Io {
            step: "let a build to the package index",
            source,
        })?;
        let mut settings = shared.settings.install.clone();
        if let Some(access) = &access {
            settings.index = Some(access.url.clone());
        }
        let memory_bytes = build.as_ref().map_or(0, Build::memory_bytes);
        worker.install(installation, &settings, memory_bytes).await
    }

    /// Compiles an unpacked tree, unless it is compiled. Returns the number of compiled files.
    ///
    /// # Errors
    /// Disk errors, sandbox errors, or no capacity.
    pub async fn compile(
        &self,
        account: AccountId,
        tree: &Sha256,
        interpreter: &Interpreter,
    ) -> Result<usize, PackageError> {
        let shared = &*self.shared;
        let worker = &shared.worker;
        let needs = {
            // At a start, all trees are read.
            let _turn = shared.reads.acquire().await;
            worker.compile_needs(tree, interpreter).await?
        };
        let Some(needs) = needs else {
            return Ok(0);
        };
        let _lock = shared.account_locks.take(account).await;
        let wanted_mb = needs
            .memory_bytes
            .div_ceil(1 << 20)
            .min(shared.settings.memory_mb);
        let build = self.reserve(account, wanted_mb, needs.timeout).await?;
        let memory_bytes = build.memory_bytes();
        worker
            .precompile(account, tree, interpreter, memory_bytes)
            .await
    }

    async fn reserve(
        &self,
        account: AccountId,
        wanted_mb: u64,
        within: Duration,
    ) -> Result<Build, PackageError> {
        let reserved = self.shared.driver.build(account, wanted_mb, within).await;
        reserved.map_err(|refused| PackageError::Refused(refused.to_string()))
    }
}
