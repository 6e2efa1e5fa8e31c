//! The processes of an instance: running, frozen, or ended.

use std::borrow::Borrow;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sandbox::Pidfd;
use sandbox::cgroup::CgroupSlot;
use sandbox::guest::ExitStatus;
use sandbox::zygote::Zygote;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use crate::disks::DiskLease;
use crate::host_resources::HostResources;
use crate::identity::InstanceIdentity;
use crate::work_directory::WorkDirectory;

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) out_of_memory: bool,
}

/// A sandbox with its processes. Its control groups and user id are released when it has ended.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: Arc<Pidfd>,
    slot: Mutex<Option<CgroupSlot>>,
    /// Its work directory for temporary files, if that is a directory of the host.
    work_directory: Option<WorkDirectory>,
    /// Its lease of disk space.
    disk: OnceLock<DiskLease>,
    user: u32,
    exit: watch::Receiver<Option<Exit>>,
    resources: Arc<HostResources>,
    /// The instance ends with its zygote, so it keeps the zygote alive.
    _zygote: Arc<Zygote>,
}

impl Process {
    /// Takes charge of a new sandbox. Must be called within a tokio runtime.
    pub(crate) fn adopt(
        init: Pidfd,
        (zygote, mut zygote_alive): (Arc<Zygote>, watch::Receiver<()>),
        status: oneshot::Receiver<ExitStatus>,
        slot: Option<CgroupSlot>,
        work_directory: Option<WorkDirectory>,
        identity: InstanceIdentity,
        resources: Arc<HostResources>,
    ) -> std::io::Result<Arc<Self>> {
        let pidfd = Arc::new(init);
        // Readable once the sandbox init, and with it every other process, has ended.
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
                    // The zygote has ended and sends no status any more.
                    _ = zygote_alive.changed() => None,
                }
            };
            tokio::pin!(ended, handler);
            let status = tokio::select! {
                () = &mut ended => handler.await,
                status = &mut handler => {
                    // The remaining processes end with the sandbox init. It would end with its zygote, but a frozen one
                    // cannot, so it is killed.
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

    /// Runs a function on the control groups, unless they were released.
    pub(crate) fn with_slot<T>(&self, run: impl FnOnce(&mut CgroupSlot) -> T) -> Option<T> {
        self.slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(run)
    }

    /// Returns the peak memory use since the start, bytes; of the first process only, if there are no control groups.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.with_slot(|slot| slot.peak())
            .or_else(|| self.pidfd.resident_peak())
            .unwrap_or(0)
    }

    /// Returns the process id if the instance has exactly one process.
    pub(crate) fn sole_process(&self) -> Option<i32> {
        match self.with_slot(|slot| slot.processes())?.ok()?[..] {
            [sole_process] => Some(sole_process),
            _ => None,
        }
    }

    /// Returns its user id, which no other running instance has.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// Keeps a disk lease until the instance has ended.
    pub(crate) fn attach_disk(&self, disk: DiskLease) {
        // This is called once per process, so `set` succeeds.
        let _ = self.disk.set(disk);
    }

    /// Returns its work directory for temporary files, if that is a directory of the host.
    pub(crate) fn work_directory(&self) -> Option<&Path> {
        self.work_directory
            .as_ref()
            .map(|work_directory| work_directory.0.as_path())
    }

    /// Kills every process of the instance.
    pub(crate) fn kill(&self) {
        if let Err(e) = self.pidfd.kill() {
            warn!(error = %e, "failed to kill an instance");
        }
        // In cgroup version 1 a frozen process dies only after it is thawed.
        self.freeze(false);
    }

    /// Returns a socket in its network namespace, to connect with.
    pub(crate) fn socket_inside(&self) -> sandbox::Result<OwnedFd> {
        sandbox::network::socket_inside(&self.pidfd)
    }

    /// Sends SIGTERM to its processes.
    pub(crate) fn terminate(&self) {
        let sent = match self.with_slot(|slot| slot.terminate()) {
            Some(sent) => sent.map_err(|e| e.to_string()),
            None => self.pidfd.terminate().map_err(|e| e.to_string()),
        };
        if let Err(error) = sent {
            warn!(error, "failed to send SIGTERM to an instance");
        }
    }

    /// Returns its address, which no other running instance has.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        let number = self.resources.users.number(self.user);
        self.resources.network.as_ref()?.address(number)
    }

    /// Takes its public network, so that it reaches virga's services alone.
    pub(crate) fn restrict_network(&self) -> sandbox::Result<()> {
        match &self.resources.network {
            Some(network) => network.restrict(self.resources.users.number(self.user)),
            None => Ok(()),
        }
    }

    /// Freezes all processes, or thaws them.
    pub(crate) fn freeze(&self, frozen: bool) {
        if let Some(Err(e)) = self.with_slot(|slot| slot.freeze(frozen))
            && !self.resources.is_closed()
        {
            warn!(error = %e, frozen, "failed to freeze or thaw an instance");
        }
    }

    /// Returns how it ended, if it has.
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
            // The runtime is shutting down while the instance runs, so nothing of it may be reused.
            let _ = self.pidfd.kill();
            return;
        }
        if let (Some(slot), Some(tree)) = (slot, &self.resources.tree) {
            tree.release(slot);
        }
        self.resources.users.release(self.user);
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
            warn!(error = %e, "failed to watch a process; killing it");
            let _ = watched.get_ref().borrow().kill();
        }
    })
}
