//! An instance's processes as virga sees them: alive, frozen, ended.

use std::borrow::Borrow;
use std::fs::DirBuilder;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sandbox::Pidfd;
use sandbox::cgroup::{CgroupSlot, CgroupTree};
use sandbox::guest::ExitStatus;
use sandbox::network::Network;
use sandbox::zygote::Zygote;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use crate::disks::{DiskLease, Disks};
use crate::identity::InstanceIdentity;
use crate::users::Users;

/// What instances of a worker take from and give back to.
#[derive(Debug)]
pub(crate) struct HostResources {
    /// None where instances are processes and nothing more.
    pub(crate) tree: Option<CgroupTree>,
    pub(crate) users: Users,
    /// None where functions have no network but their loopback.
    pub(crate) network: Option<Network>,
    /// None where temporary files are in memory.
    pub(crate) disks: Option<Disks>,
    /// Set when everything is being removed.
    pub(crate) closed: AtomicBool,
    /// The same, for those that wait for it.
    pub(crate) stopping: watch::Sender<bool>,
}

impl HostResources {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until everything is being removed.
    pub(crate) async fn closing(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender is this home's own.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) out_of_memory: bool,
}

/// A sandbox with its processes. Its control groups and its user go back when it has ended.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: Arc<Pidfd>,
    slot: Mutex<Option<CgroupSlot>>,
    /// Its directory for temporary files, where that is one of the host's.
    work_directory: Option<WorkDirectory>,
    /// What it has of the host's disk.
    disk: OnceLock<DiskLease>,
    user: u32,
    exit: watch::Receiver<Option<Exit>>,
    resources: Arc<HostResources>,
    /// With it this would end.
    _zygote: Arc<Zygote>,
}

impl Process {
    /// Takes charge of a fresh sandbox. Must be called within a tokio runtime.
    pub(crate) fn adopt(
        cell: Pidfd,
        (zygote, mut zygote_alive): (Arc<Zygote>, watch::Receiver<()>),
        status: oneshot::Receiver<ExitStatus>,
        slot: Option<CgroupSlot>,
        work_directory: Option<WorkDirectory>,
        identity: InstanceIdentity,
        resources: Arc<HostResources>,
    ) -> std::io::Result<Arc<Self>> {
        let pidfd = Arc::new(cell);
        // Readable once the cell's first process and with it every other is gone.
        let ended = wait_for_exit(pidfd.clone())?;
        let (sender, exit) = watch::channel(None);
        let process = Arc::new(Self {
            pidfd,
            slot: Mutex::new(slot),
            work_directory,
            disk: OnceLock::new(),
            user: identity.into_user(),
            exit,
            resources,
            _zygote: zygote,
        });
        let watched_process = process.clone();
        tokio::spawn(async move {
            let handler = async {
                tokio::select! {
                    biased;
                    sent = status => sent.ok(),
                    // Nobody tells any more.
                    _ = zygote_alive.changed() => None,
                }
            };
            tokio::pin!(ended, handler);
            let status = tokio::select! {
                () = &mut ended => handler.await,
                status = &mut handler => {
                    // What else there is in its cell ends with it; and it with its zygote, which a frozen one does not do by itself.
                    watched_process.kill();
                    ended.await;
                    status
                }
            };
            let exit = watched_process.exit_record(status);
            debug!(?exit, "instance ended");
            let _ = sender.send(Some(exit));
        });
        Ok(process)
    }

    fn exit_record(&self, status: Option<ExitStatus>) -> Exit {
        let status = status.unwrap_or(ExitStatus::Signaled(9));
        let out_of_memory = self.with_slot(|slot| slot.out_of_memory()).unwrap_or(false);
        Exit {
            status,
            out_of_memory,
        }
    }

    /// Runs something on the control groups, while they are this instance's.
    pub(crate) fn with_slot<T>(&self, run: impl FnOnce(&mut CgroupSlot) -> T) -> Option<T> {
        self.slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(run)
    }

    /// Highest memory use since the start, bytes; of its first process alone where there are no control groups.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.with_slot(|slot| slot.peak())
            .or_else(|| self.pidfd.resident_peak())
            .unwrap_or(0)
    }

    /// The process that is all there is of it, if there is only one.
    pub(crate) fn sole_process(&self) -> Option<i32> {
        match self.with_slot(|slot| slot.processes())?.ok()?[..] {
            [sole_process] => Some(sole_process),
            _ => None,
        }
    }

    /// Its user, which no other living instance has.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// Keeps a disk for it until it has ended.
    pub(crate) fn attach_disk(&self, disk: DiskLease) {
        // It is given one once.
        let _ = self.disk.set(disk);
    }

    /// Its directory for temporary files, where that is one of the host's.
    pub(crate) fn work_directory(&self) -> Option<&Path> {
        self.work_directory
            .as_ref()
            .map(|work_directory| work_directory.0.as_path())
    }

    /// Ends every process of the instance.
    pub(crate) fn kill(&self) {
        if let Err(e) = self.pidfd.kill() {
            warn!(error = %e, "cannot kill an instance");
        }
        // Under version 1 a frozen process does not die before it is thawed.
        self.freeze(false);
    }

    /// A socket inside its network, to connect with.
    pub(crate) fn socket_inside(&self) -> sandbox::Result<OwnedFd> {
        sandbox::network::socket_inside(&self.pidfd)
    }

    /// Tells its processes to end, where they can be told from others.
    pub(crate) fn terminate(&self) {
        let sent = match self.with_slot(|slot| slot.terminate()) {
            Some(sent) => sent.map_err(|e| e.to_string()),
            None => self.pidfd.terminate().map_err(|e| e.to_string()),
        };
        if let Err(error) = sent {
            warn!(error, "cannot tell an instance to end");
        }
    }

    /// Its address, which no other living instance has.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        let number = self.resources.users.number(self.user);
        self.resources.network.as_ref()?.address(number)
    }

    /// Takes its network away but for the loopback.
    pub(crate) fn disable_network(&self) -> sandbox::Result<()> {
        match &self.resources.network {
            Some(network) => network.disconnect(self.resources.users.number(self.user)),
            None => Ok(()),
        }
    }

    /// Stops all processes where they are, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        if let Some(Err(e)) = self.with_slot(|slot| slot.freeze(frozen))
            && !self.resources.is_closed()
        {
            warn!(error = %e, frozen, "cannot freeze or thaw an instance");
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| exit.clone());
        ended.unwrap_or(Exit {
            status: ExitStatus::Signaled(9),
            out_of_memory: false,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let slot = self
            .slot
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if self.exit.borrow().is_none() {
            // The runtime is shutting down around a living instance; nothing of it may be used again.
            let _ = self.pidfd.kill();
            return;
        }
        if let (Some(slot), Some(tree)) = (slot, &self.resources.tree) {
            tree.release(slot);
        }
        self.resources.users.release(self.user);
    }
}

/// A directory of one instance, gone with it.
#[derive(Debug)]
pub(crate) struct WorkDirectory(pub(crate) PathBuf);

impl WorkDirectory {
    /// Makes it below `parent`.
    pub(crate) fn make(parent: &Path, name: &str) -> std::io::Result<Self> {
        let path = parent.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        if let Err(error) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, path = %self.0.display(), "temporary files are left behind");
        }
    }
}

/// Waits for a process to end.
pub(crate) fn wait_for_exit<T>(pidfd: T) -> std::io::Result<impl Future<Output = ()> + Send>
where
    T: AsRawFd + Borrow<Pidfd> + Send + Sync + 'static,
{
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that lend out a foreign descriptor; this one owns it"
    )]
    let watched = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    Ok(async move {
        let ready = watched.readable().await.map(drop);
        if let Err(e) = ready {
            warn!(error = %e, "cannot watch a process; it will be killed");
            let _ = watched.get_ref().borrow().kill();
        }
    })
}
