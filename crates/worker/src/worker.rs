//! The worker: one zygote per account and zygote key, and the instances forked from it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{AccountId, FunctionKind, Language, Runtime};
use sandbox::cgroup::CgroupTree;
use sandbox::launch::ZygoteSpec;
use sandbox::network::Network;
use sandbox::{Authority, Isolation, Names};
use tokio::sync::watch;
use tracing::warn;

use crate::disks::{DiskSettings, Disks};
use crate::host_resources::HostResources;
use crate::identity::{IdentityPool, InstanceIdentity};
use crate::instance::{InstanceLimits, StartError};
use crate::local_files::LocalFiles;
use crate::private_trees::PrivateTrees;
use crate::sandbox_pool::{PoolSettings, SandboxKind, SandboxPool, ZygoteRenewal};
use crate::start::{has_libraries, is_read_at_start};
use crate::users::Users;
use crate::warden;
use crate::{
    Credentials, Error, Instance, InstanceSpec, Interpreter, Interpreters, PackageStore, Started,
    layout, root, runtime,
};

/// Configuration of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory for the worker alone. Whatever an earlier run left in it is replaced.
    pub directory: PathBuf,
    /// Virga's own binary, which the zygotes execute.
    pub virga: PathBuf,
    /// Name of the control groups, unique per worker.
    pub cgroup: String,
    /// Claim by which the warden checks that the control groups still belong to this worker.
    pub claim: Option<sandbox::warden::CgroupClaim>,
    /// The interpreters of the host.
    pub interpreters: Interpreters,
    /// The packages of the node, from which code is unpacked.
    pub packages: PackageStore,
    /// First user id reserved for instances.
    pub uid_base: u32,
    /// Number of reserved user ids.
    pub uid_count: u32,
    /// Pre-warmed sandboxes kept ready per zygote.
    pub prewarm: usize,
    /// When zygotes are renewed.
    pub renewal: ZygoteRenewal,
    /// Limits of every instance.
    pub limits: model::Limits,
    /// Isolation of every instance.
    pub isolation: Isolation,
    /// The local certificate authority, if instances trust it.
    pub authority: Option<Authority>,
    /// Disk space for the temporary files of all instances together, bytes. 0 keeps them in memory. `None` takes a part
    /// of the free space.
    pub tmp_total_bytes: Option<u64>,
}

/// How many ready sandboxes of other functions may be evicted for one start that finds no free user id. Other starts
/// compete for the freed ids, so one may not be enough.
const EVICTIONS_MAX: u32 = 8;
/// How long to wait until the last handle on an evicted sandbox is dropped.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts instances. Cheap to share.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    resources: Arc<HostResources>,
    identities: Arc<IdentityPool>,
    sandbox_pools: Mutex<HashMap<(AccountId, ZygoteKey), Arc<SandboxPool>>>,
    private_trees: Arc<PrivateTrees>,
}

/// Selects the zygote that an instance is forked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ZygoteKey {
    /// A warm interpreter, whose children are copies of it.
    Copies(Runtime),
    /// A zygote without an interpreter, whose children execute other programs.
    Programs,
}

impl ZygoteKey {
    /// Returns the zygote key for functions that set these environment variables.
    fn of<'a>(
        kind: FunctionKind,
        interpreter: &Interpreter,
        variables: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let warm = runtime::served_by(interpreter).warm_interpreter();
        let Some(warm) = warm.filter(|_| kind == FunctionKind::Event) else {
            return Self::Programs;
        };
        let own = warm.start_variables();
        let mut variables = variables.into_iter();
        match variables.any(|name| is_read_at_start(name, own)) {
            true => Self::Programs,
            false => Self::Copies(interpreter.runtime),
        }
    }
}

impl Worker {
    /// Prepares the worker's directory and control groups. Starts no process yet.
    ///
    /// # Errors
    /// The step that failed, for example a missing control group controller.
    pub fn new(config: Config, network: Option<Network>) -> Result<Self, Error> {
        let prepare = Error::io("prepare the worker's directory");
        write_runtime(&config.directory).map_err(prepare)?;
        let tree = match config.isolation {
            Isolation::Full => Some(CgroupTree::open(&config.cgroup)?),
            Isolation::Process => None,
        };
        if let (Some(tree), Some(claim)) = (&tree, &config.claim) {
            warden::supervise(&config.virga, tree, claim.clone())?;
        }
        let next_user_file = config.directory.join("users");
        let users = Users::open(config.uid_base, config.uid_count, next_user_file);
        let disks = match (config.isolation, config.tmp_total_bytes) {
            (Isolation::Process, _) | (_, Some(0)) => None,
            (Isolation::Full, total) => {
                let (bytes, inodes) = tmp_bounds(&config.limits);
                let started = Disks::start(DiskSettings {
                    directory: config.directory.clone(),
                    bytes,
                    inodes,
                    total,
                });
                Some(started.map_err(Error::io("start a thread for disks"))?)
            }
        };
        let resources = Arc::new(HostResources {
            tree,
            users,
            network,
            disks,
            closed: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
        });
        let identities = IdentityPool::start(resources.clone());
        Ok(Self {
            identities: Arc::new(identities.map_err(Error::io("start a thread for networks"))?),
            resources,
            config,
            sandbox_pools: Mutex::default(),
            private_trees: Arc::default(),
        })
    }

    /// Returns the interpreters of this host.
    pub fn interpreters(&self) -> &Interpreters {
        &self.config.interpreters
    }

    /// Starts the zygote and the sandbox pool for functions of this account, kind, runtime and environment, unless they
    /// run. Does not wait for them.
    ///
    /// # Errors
    /// No interpreter serves the runtime, or the thread cannot be started.
    pub fn prepare<'a>(
        &self,
        account: AccountId,
        kind: FunctionKind,
        runtime: Runtime,
        variables: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let served = self.interpreters().serve(runtime)?;
        let interpreter = &served.interpreter;
        let zygote_key = ZygoteKey::of(kind, interpreter, variables);
        self.sandbox_pool(account, zygote_key, interpreter)
            .map(drop)
    }

    /// Unpacks the code of a specification, unless it is unpacked, and starts what its instances need.
    ///
    /// # Errors
    /// No interpreter serves the runtime, the code is not in the store, or the thread cannot be started.
    pub async fn prepare_for(&self, spec: &InstanceSpec) -> Result<(), Error> {
        LocalFiles::of(spec, self.interpreters(), self.packages()).await?;
        let variables = spec.environment.iter().map(|(name, _)| name.as_str());
        self.prepare(spec.function.account, spec.kind, spec.runtime, variables)
    }

    /// Returns the zygote key of an instance.
    fn zygote_key(&self, spec: &InstanceSpec, files: &LocalFiles) -> ZygoteKey {
        let variables = spec.environment.iter().map(|(name, _)| name.as_str());
        let zygote_key = ZygoteKey::of(spec.kind, &files.interpreter, variables);
        let trees: Vec<_> = [Some(&files.code), files.layers.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        match zygote_key {
            ZygoteKey::Copies(_) if !self.isolated() && has_libraries(&trees) => {
                ZygoteKey::Programs
            }
            zygote_key => zygote_key,
        }
    }

    /// Lets instances that start from now on see files that were added to a tree.
    pub(crate) fn renew_private_tree(&self, tree: &Path) {
        self.private_trees.renew(tree);
    }

    /// Ends the zygotes of an account and all instances forked from them.
    pub fn forget(&self, account: AccountId) {
        self.private_trees.forget(account);
        let mut sandbox_pools = self
            .sandbox_pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = sandbox_pools
            .keys()
            .filter(|(owner, _)| *owner == account)
            .copied()
            .collect();
        let gone: Vec<_> = gone
            .iter()
            .filter_map(|key| sandbox_pools.remove(key))
            .collect();
        // Dropping ends processes and may block, so it happens outside of the lock.
        drop(sandbox_pools);
        drop(gone);
    }

    /// Starts an instance: takes a pre-warmed sandbox, assigns it the function, and waits until the handler is loaded.
    ///
    /// # Errors
    /// [`StartError`] says whether the user's code or the platform is at fault.
    pub async fn start(
        &self,
        spec: Arc<InstanceSpec>,
        credentials: Option<Credentials>,
    ) -> Result<Started, StartError> {
        let begun = Instant::now();
        let unsupported = match spec.kind {
            _ if self.isolated() => None,
            FunctionKind::Http => Some("a web function (Type HTTP), whose port is its own,"),
            FunctionKind::Event => {
                (!spec.public_net).then_some("PublicNetConfig with PublicNetStatus DISABLE")
            }
        };
        if let Some(what) = unsupported {
            return Err(Error::NeedsIsolation(what).into());
        }
        let files = LocalFiles::of(&spec, self.interpreters(), self.packages()).await?;
        let sandbox_pool = self.sandbox_pool(
            spec.function.account,
            self.zygote_key(&spec, &files),
            &files.interpreter,
        )?;
        let mut evictions = 0..EVICTIONS_MAX;
        let prewarmed = loop {
            match sandbox_pool.take().await {
                Err(Error::NoUser(_))
                    if evictions.next().is_some() && self.reclaim_user().await => {}
                taken => break taken?,
            }
        };
        let limits = &self.config.limits;
        let instance_limits = InstanceLimits {
            response_bytes: limits.response_bytes,
            log_bytes: limits.log_bytes,
            pids: limits.pids,
        };
        let disk = match &self.resources.disks {
            Some(disks) => disks.take(prewarmed.process.user()).await?,
            None => None,
        };
        Instance::start(
            prewarmed,
            (spec, &files),
            credentials,
            instance_limits,
            &self.private_trees,
            disk,
            begun,
        )
        .await
    }

    /// Evicts a ready sandbox of any function to free its user id. Returns whether there was one.
    async fn reclaim_user(&self) -> bool {
        let all: Vec<_> = {
            let sandbox_pools = self.sandbox_pools.lock();
            let sandbox_pools = sandbox_pools.unwrap_or_else(PoisonError::into_inner);
            sandbox_pools.values().cloned().collect()
        };
        let Some(evicted) = all
            .iter()
            .find_map(|sandbox_pool| sandbox_pool.kill_ready_sandbox())
        else {
            return false;
        };
        evicted.wait().await;
        // The user id is released when the last handle is dropped.
        let last = Arc::downgrade(&evicted);
        drop(evicted);
        let gone = async {
            while last.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(RELEASE_TIMEOUT, gone).await.is_ok()
    }

    /// Ends every zygote and every instance, removes control groups, network and temporary files, and waits until that
    /// is done.
    pub fn close(&self) {
        self.resources.closed.store(true, Ordering::Relaxed);
        self.resources.stopping.send_replace(true);
        self.sandbox_pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(tree) = &self.resources.tree
            && let Err(error) = tree.remove()
        {
            warn!(%error, "failed to remove control groups");
        }
        if let Some(network) = &self.resources.network {
            network.close();
        }
        if let Err(error) = remove_work_directories(&self.config.directory) {
            warn!(%error, "failed to remove temporary files of instances");
        }
    }

    /// Returns whether the worker is shutting down. Errors are expected then.
    pub fn is_closing(&self) -> bool {
        self.resources.is_closed()
    }

    pub(crate) fn resources(&self) -> &Arc<HostResources> {
        &self.resources
    }

    /// Reserves the identity that a tool runs with.
    pub(crate) fn identity(&self, network: bool) -> Result<InstanceIdentity, Error> {
        if network {
            InstanceIdentity::make(&self.resources)
        } else {
            InstanceIdentity::without_network(&self.resources)
        }
    }

    /// Returns how functions resolve host names.
    pub(crate) fn names(&self) -> Names {
        let given = |network: &Network| Names::Given {
            hosts: network.hosts(),
            resolver: network.resolver(),
            authority: self.config.authority.clone(),
        };
        self.resources
            .network
            .as_ref()
            .map_or(Names::Nowhere, given)
    }

    /// Returns the warning that is logged at every cold start without full isolation.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.isolated()).then_some(
            "started with --isolation=process: this function is not isolated from others",
        )
    }

    pub(crate) fn isolated(&self) -> bool {
        self.config.isolation == Isolation::Full
    }

    /// Returns the user id that a tool runs as. `None` keeps virga's own.
    pub(crate) fn own_user(&self, identity: &InstanceIdentity) -> Option<u32> {
        self.isolated().then(|| identity.user())
    }

    /// Returns the host paths that a process without a root of its own may read.
    pub(crate) fn readable(&self, seen: &[&Interpreter], more: &[&Path]) -> Vec<PathBuf> {
        let system = sandbox::SYSTEM.iter().chain(sandbox::CONFIGURATION);
        let runtime = runtime_directory(&self.config.directory);
        system
            .chain(&[
                "/proc",
                "/etc/passwd",
                "/etc/group",
                "/etc/hosts",
                "/etc/nsswitch.conf",
            ])
            .chain(&["/etc/resolv.conf", "/etc/localtime"])
            .map(PathBuf::from)
            .chain(seen.iter().map(|interpreter| interpreter.prefix.clone()))
            .chain([runtime])
            .chain(more.iter().map(|path| path.to_path_buf()))
            .collect()
    }

    pub(crate) fn packages(&self) -> &PackageStore {
        &self.config.packages
    }

    pub(crate) fn limits(&self) -> &model::Limits {
        &self.config.limits
    }

    pub(crate) fn virga(&self) -> &Path {
        &self.config.virga
    }

    /// Returns the empty directory on which root file systems are assembled.
    pub(crate) fn root_directory(&self) -> PathBuf {
        self.config.directory.join("root")
    }

    fn sandbox_pool(
        &self,
        account: AccountId,
        zygote_key: ZygoteKey,
        interpreter: &Interpreter,
    ) -> Result<Arc<SandboxPool>, Error> {
        let mut sandbox_pools = self
            .sandbox_pools
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (account, zygote_key);
        if let Some(sandbox_pool) = sandbox_pools.get(&key) {
            return Ok(sandbox_pool.clone());
        }
        if let ZygoteKey::Copies(_) = zygote_key
            && let Some(warm) = runtime::served_by(interpreter).warm_interpreter()
            && sandbox_pools.keys().all(|(_, known)| *known != zygote_key)
        {
            warm.prepare(interpreter, &runtime_directory(&self.config.directory));
        }
        let pool_settings = self.pool_settings(account, zygote_key, interpreter);
        let name = match zygote_key {
            ZygoteKey::Copies(runtime) => format!("zygote-{account}-{runtime}"),
            ZygoteKey::Programs => format!("zygote-{account}-programs"),
        };
        let sandbox_pool = SandboxPool::start(
            &name,
            pool_settings,
            self.resources.clone(),
            self.identities.clone(),
        )
        .map_err(Error::io("start a zygote's thread"))?;
        Ok(sandbox_pools
            .entry(key)
            .or_insert(Arc::new(sandbox_pool))
            .clone())
    }

    fn pool_settings(
        &self,
        account: AccountId,
        zygote_key: ZygoteKey,
        interpreter: &Interpreter,
    ) -> PoolSettings {
        let limits = &self.config.limits;
        let (tmp_bytes, tmp_inodes) = tmp_bounds(limits);
        let directory = &self.config.directory;
        let files = runtime_directory(directory);
        let shims: PathBuf = match self.isolated() {
            true => layout::RUNTIME.into(),
            false => files.clone(),
        };
        let warm = match zygote_key {
            ZygoteKey::Copies(_) => runtime::served_by(interpreter).warm_interpreter(),
            ZygoteKey::Programs => None,
        };
        let seen: Vec<_> = match warm {
            Some(_) => vec![interpreter],
            None => self.interpreters().all().map(AsRef::as_ref).collect(),
        };
        let root = self.isolated().then(|| {
            let files = root::read_only(&files, Path::new(layout::RUNTIME));
            let (staging, names) = (self.root_directory(), self.names());
            let mut root = root::of(&seen, staging, vec![files], names);
            if warm.is_none() {
                // Scripts that name an interpreter which this host lacks find the one that serves it.
                for (link, prefix) in self.interpreters().documented_paths() {
                    if root.links.iter().all(|(known, _)| *known != link) {
                        root.links.push((link, prefix));
                    }
                }
            }
            root
        });
        let program = warm.map(|warm| {
            let mut program = warm.program(interpreter, &shims);
            // Without a root of its own, these would be directories of the host.
            if root.is_some() {
                let libraries = sandbox::LIBRARIES.join(":");
                program.env.push(format!("LD_LIBRARY_PATH={libraries}"));
            }
            program
        });
        PoolSettings {
            account: account.0,
            virga: self.config.virga.clone(),
            zygote: ZygoteSpec { root, program },
            shims,
            sandbox_kind: match self.config.isolation {
                Isolation::Full => SandboxKind::Namespaces,
                Isolation::Process => SandboxKind::Host {
                    readable: self.readable(&seen, &[]),
                    work_directories: work_directories(directory),
                },
            },
            ready: self.config.prewarm,
            tmp_bytes,
            tmp_inodes,
            open_files: u64::from(limits.open_files),
            processes: limits.pids,
            renewal: self.config.renewal,
        }
    }
}

/// Returns the limits of an instance's `/tmp`, in bytes and in files (one per 16 KB on average).
fn tmp_bounds(limits: &model::Limits) -> (u64, u64) {
    let bytes = u64::from(limits.tmp_mb) << 20;
    (bytes, (bytes >> 14).max(1024))
}

fn runtime_directory(directory: &Path) -> PathBuf {
    directory.join("runtime")
}

/// Returns the parent of the work directories of instances that have no root of their own.
fn work_directories(directory: &Path) -> PathBuf {
    directory.join("tmp")
}

/// Maximum attempts to remove work directories that others remove at the same time.
const MAX_REMOVALS: usize = 100;

fn remove_work_directories(directory: &Path) -> std::io::Result<()> {
    // Instances that end at the same time remove their own.
    for _ in 0..MAX_REMOVALS {
        match sandbox::remove_directory(&work_directories(directory)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            removed => return removed,
        }
    }
    sandbox::remove_directory(&work_directories(directory))
}

/// Writes the runtime files that a root is built from: the shims, the library, and an empty directory to assemble it on.
fn write_runtime(directory: &Path) -> std::io::Result<()> {
    let files = runtime_directory(directory);
    match std::fs::remove_dir_all(&files) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::create_dir_all(&files)?;
    std::fs::create_dir_all(directory.join("root"))?;
    remove_work_directories(directory)?;
    let all = Language::ALL.iter();
    for (name, bytes) in all.flat_map(|language| runtime::of(*language).files()) {
        let file = files.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(file, bytes)?;
    }
    Ok(())
}
