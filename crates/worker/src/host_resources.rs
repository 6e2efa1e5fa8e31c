//! Resources of the host that the instances of a worker share.

use std::sync::atomic::{AtomicBool, Ordering};

use sandbox::cgroup::CgroupTree;
use sandbox::network::Network;
use tokio::sync::watch;

use crate::disks::Disks;
use crate::users::Users;

/// Host resources that the instances of a worker share.
#[derive(Debug)]
pub(crate) struct HostResources {
    /// `None` with `--isolation=process`.
    pub(crate) tree: Option<CgroupTree>,
    pub(crate) users: Users,
    /// `None` if functions have only loopback.
    pub(crate) network: Option<Network>,
    /// `None` if temporary files are kept in memory.
    pub(crate) disks: Option<Disks>,
    /// Set at shutdown.
    pub(crate) closed: AtomicBool,
    /// The same flag, to wait for.
    pub(crate) stopping: watch::Sender<bool>,
}

impl HostResources {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits for the shutdown.
    pub(crate) async fn closing(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}
