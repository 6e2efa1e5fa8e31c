//! The worker: one zygote per account and interpreter, and the instances that come of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::{AccountId, FunctionKind, Runtime};
use sandbox::cgroup::CgroupTree;
use sandbox::launch::ZygoteSpec;
use sandbox::network::Network;
use sandbox::{Authority, Isolation, Names};
use tokio::sync::watch;
use tracing::warn;

use crate::disks::{DiskSettings, Disks};
use crate::identity::{IdentityPool, InstanceIdentity};
use crate::instance::{InstanceLimits, StartError};
use crate::private_trees::PrivateTrees;
use crate::process::HostResources;
use crate::sandbox_pool::{PoolSettings, SandboxKind, SandboxPool, ZygoteRenewal};
use crate::start::{has_libraries, is_read_at_start};
use crate::users::Users;
use crate::warden;
use crate::{
    Credentials, Error, Instance, InstanceSpec, Interpreter, Interpreters, Started, python, runner,
};

/// What a worker is set up with.
#[derive(Clone, Debug)]
pub struct Config {
    /// A directory for the worker alone; what an earlier run left in it is replaced.
    pub directory: PathBuf,
    /// Virga's own binary, which becomes the zygotes.
    pub virga: PathBuf,
    /// Name of the control groups; one worker per name.
    pub cgroup: String,
    /// How the warden knows that they are still this worker's.
    pub claim: Option<sandbox::warden::CgroupClaim>,
    /// The interpreters to serve with.
    pub interpreters: Interpreters,
    /// First of the users set aside for instances.
    pub uid_base: u32,
    /// How many.
    pub uid_count: u32,
    /// Blanks ready per zygote.
    pub blanks: usize,
    /// When zygotes are renewed.
    pub renewal: ZygoteRenewal,
    /// Bounds of every instance.
    pub limits: model::Limits,
    /// What stands around every instance.
    pub isolation: Isolation,
    /// Virga's own certificate authority, where instances trust it.
    pub authority: Option<Authority>,
    /// How much of the disk all instances' temporary files together may have, bytes; 0 keeps them in memory. A part of what is free
    /// where it is not said.
    pub tmp_total_bytes: Option<u64>,
}

/// How many sandboxes that wait for others are ended for a start that finds no user, since others start, too.
const EVICTIONS_MAX: u32 = 8;
/// How long the last handle on an ended sandbox may be held.
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

/// What comes of one zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ZygoteKey {
    /// Copies of a Python.
    Python(Runtime),
    /// What starts other programs.
    Programs,
}

impl ZygoteKey {
    /// For functions that set these variables.
    fn of<'a>(
        kind: FunctionKind,
        interpreter: &Interpreter,
        variables: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        match (kind, interpreter.runtime) {
            (FunctionKind::Event, python @ Runtime::Python { .. })
                if !variables.into_iter().any(is_read_at_start) =>
            {
                Self::Python(python)
            }
            _ => Self::Programs,
        }
    }
}

impl Worker {
    /// Prepares the worker's directory and control groups. Starts no process yet.
    ///
    /// # Errors
    /// The step that failed, as when the host lacks a control group.
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

    /// The interpreters of this host.
    pub fn interpreters(&self) -> &Interpreters {
        &self.config.interpreters
    }

    /// Makes sure that a zygote and its blanks are on their way for functions of a kind of this account and interpreter, which
    /// set these variables.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn prepare<'a>(
        &self,
        account: AccountId,
        kind: FunctionKind,
        interpreter: &Interpreter,
        variables: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let zygote_key = ZygoteKey::of(kind, interpreter, variables);
        self.sandbox_pool(account, zygote_key, interpreter)
            .map(drop)
    }

    /// What an instance comes of.
    fn zygote_key(&self, spec: &InstanceSpec) -> ZygoteKey {
        let variables = spec.environment.iter().map(|(name, _)| name.as_str());
        let zygote_key = ZygoteKey::of(spec.kind, &spec.interpreter, variables);
        let trees: Vec<_> = [Some(&spec.code), spec.layers.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        match zygote_key {
            ZygoteKey::Python(_) if !self.isolated() && has_libraries(&trees) => {
                ZygoteKey::Programs
            }
            zygote_key => zygote_key,
        }
    }

    /// Ends the zygotes of an account, and with them whatever has come of them.
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
        // They end outside of the lock.
        drop(sandbox_pools);
        drop(gone);
    }

    /// Starts an instance: takes a blank, gives it the function, waits until the handler is loaded.
    ///
    /// # Errors
    /// [`StartError`] says whose fault it is.
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
        let sandbox_pool = self.sandbox_pool(
            spec.function.account,
            self.zygote_key(&spec),
            &spec.interpreter,
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
            spec,
            credentials,
            instance_limits,
            &self.private_trees,
            disk,
            begun,
        )
        .await
    }

    /// Ends a sandbox that waits for a function of somebody's, so that its user is free. Says whether there was one.
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
        // Its user is free when the last who knows of it has let go.
        let last = Arc::downgrade(&evicted);
        drop(evicted);
        let gone = async {
            while last.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(RELEASE_TIMEOUT, gone).await.is_ok()
    }

    /// Ends every zygote, and with it every instance, and leaves nothing behind. Waits until that is done.
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
            warn!(%error, "control groups are left behind");
        }
        if let Some(network) = &self.resources.network {
            network.close();
        }
        if let Err(error) = remove_work_directories(&self.config.directory) {
            warn!(%error, "temporary files of instances are left behind");
        }
    }

    /// Whether it is ending, and whatever fails may fail for that.
    pub fn is_closing(&self) -> bool {
        self.resources.is_closed()
    }

    pub(crate) fn resources(&self) -> &Arc<HostResources> {
        &self.resources
    }

    /// What a tool runs as.
    pub(crate) fn identity(&self, network: bool) -> Result<InstanceIdentity, Error> {
        if network {
            InstanceIdentity::make(&self.resources)
        } else {
            InstanceIdentity::without_network(&self.resources)
        }
    }

    /// How names are resolved where functions run.
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

    /// What users are told at every cold start, where there is less than all of the isolation.
    pub fn warning(&self) -> Option<&'static str> {
        (!self.isolated()).then_some(
            "started with --isolation=process: this function is not isolated from others",
        )
    }

    pub(crate) fn isolated(&self) -> bool {
        self.config.isolation == Isolation::Full
    }

    /// The user that a tool runs as; none where it stays virga's own.
    pub(crate) fn own_user(&self, identity: &InstanceIdentity) -> Option<u32> {
        self.isolated().then(|| identity.user())
    }

    /// What a process reads of the host where it has no root of its own.
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

    pub(crate) fn limits(&self) -> &model::Limits {
        &self.config.limits
    }

    pub(crate) fn virga(&self) -> &Path {
        &self.config.virga
    }

    /// The empty directory on which roots are put together.
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
        if let ZygoteKey::Python(_) = zygote_key
            && sandbox_pools.keys().all(|(_, known)| *known != zygote_key)
        {
            python::compile_warm_up(interpreter, &runtime_directory(&self.config.directory));
        }
        let pool_settings = self.pool_settings(account, zygote_key, interpreter);
        let name = match zygote_key {
            ZygoteKey::Python(runtime) => format!("zygote-{account}-{runtime}"),
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
        let runtime = runtime_directory(directory);
        let own = self
            .isolated()
            .then(|| (self.root_directory(), self.names()));
        let (zygote, seen) = match zygote_key {
            ZygoteKey::Python(_) => (
                python::zygote(interpreter, &runtime, own),
                vec![interpreter],
            ),
            ZygoteKey::Programs => {
                let all: Vec<_> = self.interpreters().all().map(AsRef::as_ref).collect();
                let root = own.map(|(staging, names)| {
                    let shims = python::read_only(&runtime, Path::new(python::RUNTIME));
                    let mut root = python::root(&all, staging, vec![shims], names);
                    // Where scripts name an interpreter that the host has not, they find what serves it.
                    for (link, prefix) in self.interpreters().documented_paths() {
                        if root.links.iter().all(|(known, _)| *known != link) {
                            root.links.push((link, prefix));
                        }
                    }
                    root
                });
                (
                    ZygoteSpec {
                        root,
                        program: None,
                    },
                    all,
                )
            }
        };
        PoolSettings {
            account: account.0,
            virga: self.config.virga.clone(),
            zygote,
            shims: if self.isolated() {
                python::RUNTIME.into()
            } else {
                runtime
            },
            sandbox_kind: match self.config.isolation {
                Isolation::Full => SandboxKind::Namespaces,
                Isolation::Process => SandboxKind::Host {
                    readable: self.readable(&seen, &[]),
                    work_directories: work_directories(directory),
                },
            },
            ready: self.config.blanks,
            tmp_bytes,
            tmp_inodes,
            open_files: u64::from(limits.open_files),
            processes: limits.pids,
            renewal: self.config.renewal,
        }
    }
}

/// How many bytes, and how many files, an instance may have in its `/tmp`: one per 16 KB on average.
fn tmp_bounds(limits: &model::Limits) -> (u64, u64) {
    let bytes = u64::from(limits.tmp_mb) << 20;
    (bytes, (bytes >> 14).max(1024))
}

fn runtime_directory(directory: &Path) -> PathBuf {
    directory.join("runtime")
}

/// Where instances without a root of their own have their temporary files.
fn work_directories(directory: &Path) -> PathBuf {
    directory.join("tmp")
}

fn remove_work_directories(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(work_directories(directory)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Lays out what a root is built from: the shim, the library, and an empty directory to build on.
fn write_runtime(directory: &Path) -> std::io::Result<()> {
    let runtime = runtime_directory(directory);
    match std::fs::remove_dir_all(&runtime) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::create_dir_all(&runtime)?;
    std::fs::create_dir_all(directory.join("root"))?;
    remove_work_directories(directory)?;
    std::fs::write(runtime.join("shim.py"), python::SHIM)?;
    let site = runtime.join(python::SITE_DIRECTORY);
    std::fs::create_dir(&site)?;
    std::fs::write(site.join("sitecustomize.py"), python::SITE)?;
    std::fs::write(runtime.join("warmup.py"), python::WARM_UP)?;
    std::fs::write(runtime.join("shim.js"), runner::NODE_SHIM)?;
    std::fs::write(runtime.join("libsandbox.so"), python::LIBRARY)
}
