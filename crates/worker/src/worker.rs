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

use crate::disks::{Disks, Settings};
use crate::identity::{Identities, Identity};
use crate::instance::{Bounds, StartError};
use crate::nursery::{Nursery, Place, Recipe, Renewal};
use crate::private_trees::PrivateTrees;
use crate::process::Home;
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
    pub renewal: Renewal,
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
const SPARES: u32 = 8;
/// How long the last handle on an ended sandbox may be held.
const GONE: Duration = Duration::from_secs(1);

/// Starts instances. Cheap to share.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    home: Arc<Home>,
    identities: Arc<Identities>,
    nurseries: Mutex<HashMap<(AccountId, Kin), Arc<Nursery>>>,
    private: Arc<PrivateTrees>,
}

/// What comes of one zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kin {
    /// Copies of a Python.
    Python(Runtime),
    /// What starts other programs.
    Programs,
}

impl Kin {
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
            warden::keep(&config.virga, tree, claim.clone())?;
        }
        let noted = config.directory.join("users");
        let users = Users::open(config.uid_base, config.uid_count, noted);
        let disks = match (config.isolation, config.tmp_total_bytes) {
            (Isolation::Process, _) | (_, Some(0)) => None,
            (Isolation::Full, total) => {
                let (bytes, inodes) = tmp_bounds(&config.limits);
                let started = Disks::start(Settings {
                    directory: config.directory.clone(),
                    bytes,
                    inodes,
                    total,
                });
                Some(started.map_err(Error::io("start a thread for disks"))?)
            }
        };
        let home = Arc::new(Home {
            tree,
            users,
            network,
            disks,
            closed: AtomicBool::new(false),
            stopping: watch::Sender::new(false),
        });
        let identities = Identities::start(home.clone());
        Ok(Self {
            identities: Arc::new(identities.map_err(Error::io("start a thread for networks"))?),
            home,
            config,
            nurseries: Mutex::default(),
            private: Arc::default(),
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
        let kin = Kin::of(kind, interpreter, variables);
        self.nursery(account, kin, interpreter).map(drop)
    }

    /// What an instance comes of.
    fn kin(&self, spec: &InstanceSpec) -> Kin {
        let variables = spec.environment.iter().map(|(name, _)| name.as_str());
        let kin = Kin::of(spec.kind, &spec.interpreter, variables);
        let trees: Vec<_> = [Some(&spec.code), spec.layers.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        match kin {
            Kin::Python(_) if !self.isolated() && has_libraries(&trees) => Kin::Programs,
            kin => kin,
        }
    }

    /// Ends the zygotes of an account, and with them whatever has come of them.
    pub fn forget(&self, account: AccountId) {
        self.private.forget(account);
        let mut nurseries = self
            .nurseries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = nurseries
            .keys()
            .filter(|(owner, _)| *owner == account)
            .copied()
            .collect();
        let gone: Vec<_> = gone
            .iter()
            .filter_map(|key| nurseries.remove(key))
            .collect();
        // They end outside of the lock.
        drop(nurseries);
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
        let needs = match spec.kind {
            _ if self.isolated() => None,
            FunctionKind::Http => Some("a web function (Type HTTP), whose port is its own,"),
            FunctionKind::Event => {
                (!spec.public_net).then_some("PublicNetConfig with PublicNetStatus DISABLE")
            }
        };
        if let Some(what) = needs {
            return Err(Error::NeedsIsolation(what).into());
        }
        let nursery = self.nursery(spec.function.account, self.kin(&spec), &spec.interpreter)?;
        let mut tries = 0..SPARES;
        let blank = loop {
            match nursery.take().await {
                Err(Error::NoUser(_)) if tries.next().is_some() && self.free_a_user().await => {}
                taken => break taken?,
            }
        };
        let limits = &self.config.limits;
        let bounds = Bounds {
            response_bytes: limits.response_bytes,
            log_bytes: limits.log_bytes,
            pids: limits.pids,
        };
        let disk = match &self.home.disks {
            Some(disks) => disks.take(blank.process.user()).await?,
            None => None,
        };
        Instance::start(blank, spec, credentials, bounds, &self.private, disk, begun).await
    }

    /// Ends a sandbox that waits for a function of somebody's, so that its user is free. Says whether there was one.
    async fn free_a_user(&self) -> bool {
        let all: Vec<_> = {
            let nurseries = self.nurseries.lock();
            let nurseries = nurseries.unwrap_or_else(PoisonError::into_inner);
            nurseries.values().cloned().collect()
        };
        let Some(spare) = all.iter().find_map(|nursery| nursery.give_up()) else {
            return false;
        };
        spare.wait().await;
        // Its user is free when the last who knows of it has let go.
        let last = Arc::downgrade(&spare);
        drop(spare);
        let gone = async {
            while last.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(GONE, gone).await.is_ok()
    }

    /// Ends every zygote, and with it every instance, and leaves nothing behind. Waits until that is done.
    pub fn close(&self) {
        self.home.closed.store(true, Ordering::Relaxed);
        self.home.stopping.send_replace(true);
        self.nurseries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(tree) = &self.home.tree
            && let Err(error) = tree.remove()
        {
            warn!(%error, "control groups are left behind");
        }
        if let Some(network) = &self.home.network {
            network.close();
        }
        if let Err(error) = remove_rooms(&self.config.directory) {
            warn!(%error, "temporary files of instances are left behind");
        }
    }

    /// Whether it is ending, and whatever fails may fail for that.
    pub fn is_closing(&self) -> bool {
        self.home.is_closed()
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        &self.home
    }

    /// What a tool runs as.
    pub(crate) fn identity(&self, network: bool) -> Result<Identity, Error> {
        if network {
            Identity::make(&self.home)
        } else {
            Identity::without_network(&self.home)
        }
    }

    /// How names are resolved where functions run.
    pub(crate) fn names(&self) -> Names {
        let given = |network: &Network| Names::Given {
            hosts: network.hosts(),
            resolver: network.resolver(),
            authority: self.config.authority.clone(),
        };
        self.home.network.as_ref().map_or(Names::Nowhere, given)
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
    pub(crate) fn own_user(&self, identity: &Identity) -> Option<u32> {
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

    fn nursery(
        &self,
        account: AccountId,
        kin: Kin,
        interpreter: &Interpreter,
    ) -> Result<Arc<Nursery>, Error> {
        let mut nurseries = self
            .nurseries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let key = (account, kin);
        if let Some(nursery) = nurseries.get(&key) {
            return Ok(nursery.clone());
        }
        if let Kin::Python(_) = kin
            && nurseries.keys().all(|(_, known)| *known != kin)
        {
            python::compile_warm_up(interpreter, &runtime_directory(&self.config.directory));
        }
        let recipe = self.recipe(account, kin, interpreter);
        let name = match kin {
            Kin::Python(runtime) => format!("zygote-{account}-{runtime}"),
            Kin::Programs => format!("zygote-{account}-programs"),
        };
        let nursery = Nursery::start(&name, recipe, self.home.clone(), self.identities.clone())
            .map_err(Error::io("start a zygote's thread"))?;
        Ok(nurseries.entry(key).or_insert(Arc::new(nursery)).clone())
    }

    fn recipe(&self, account: AccountId, kin: Kin, interpreter: &Interpreter) -> Recipe {
        let limits = &self.config.limits;
        let (tmp_bytes, tmp_inodes) = tmp_bounds(limits);
        let directory = &self.config.directory;
        let runtime = runtime_directory(directory);
        let own = self
            .isolated()
            .then(|| (self.root_directory(), self.names()));
        let (zygote, seen) = match kin {
            Kin::Python(_) => (
                python::zygote(interpreter, &runtime, own),
                vec![interpreter],
            ),
            Kin::Programs => {
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
        Recipe {
            account: account.0,
            virga: self.config.virga.clone(),
            zygote,
            shims: if self.isolated() {
                python::RUNTIME.into()
            } else {
                runtime
            },
            place: match self.config.isolation {
                Isolation::Full => Place::Cells,
                Isolation::Process => Place::Host {
                    readable: self.readable(&seen, &[]),
                    rooms: rooms(directory),
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
fn rooms(directory: &Path) -> PathBuf {
    directory.join("tmp")
}

fn remove_rooms(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(rooms(directory)) {
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
    remove_rooms(directory)?;
    std::fs::write(runtime.join("shim.py"), python::SHIM)?;
    let site = runtime.join(python::SITE_DIRECTORY);
    std::fs::create_dir(&site)?;
    std::fs::write(site.join("sitecustomize.py"), python::SITE)?;
    std::fs::write(runtime.join("warmup.py"), python::WARM_UP)?;
    std::fs::write(runtime.join("shim.js"), runner::NODE_SHIM)?;
    std::fs::write(runtime.join("libsandbox.so"), python::LIBRARY)
}
