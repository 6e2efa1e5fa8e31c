//! Identities of instances: a user id and a network namespace, which no two instances share.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Error;
use crate::host_resources::HostResources;

/// Identities that are kept ready. Making a network namespace takes the kernel about as long as a pre-warmed sandbox
/// takes the zygote.
const READY: usize = 8;
/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The identity of one instance. Its user id is released on drop, unless [`Self::into_user`] has taken it.
#[derive(Debug)]
pub(crate) struct InstanceIdentity {
    user: Option<u32>,
    /// `None` if functions have no network.
    network: Option<OwnedFd>,
    resources: Arc<HostResources>,
}

impl InstanceIdentity {
    /// Makes an identity.
    ///
    /// # Errors
    /// When all user ids are in use, or the kernel refuses a namespace.
    pub(crate) fn make(resources: &Arc<HostResources>) -> Result<Self, Error> {
        let mut identity = Self::without_network(resources)?;
        if let Some(network) = &resources.network {
            identity.network = Some(network.make(resources.users.number(identity.user()))?);
        }
        Ok(identity)
    }

    /// Makes an identity without a network namespace.
    ///
    /// # Errors
    /// When all user ids are in use.
    pub(crate) fn without_network(resources: &Arc<HostResources>) -> Result<Self, Error> {
        Ok(Self {
            user: Some(resources.users.acquire()?),
            network: None,
            resources: resources.clone(),
        })
    }

    pub(crate) fn user(&self) -> u32 {
        // Only `into_user` leaves `None`, and it consumes the identity.
        self.user.unwrap_or_default()
    }

    pub(crate) fn network(&self) -> Option<&OwnedFd> {
        self.network.as_ref()
    }

    /// Returns the user id, which the caller must release. The namespace lives on in its processes.
    pub(crate) fn into_user(mut self) -> u32 {
        self.user.take().unwrap_or_default()
    }
}

impl Drop for InstanceIdentity {
    fn drop(&mut self) {
        if let Some(user) = self.user {
            self.resources.users.release(user);
        }
    }
}

/// A pool of identities that a thread makes ahead of need. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct IdentityPool {
    resources: Arc<HostResources>,
    ready: Option<Mutex<Receiver<InstanceIdentity>>>,
}

impl IdentityPool {
    pub(crate) fn start(resources: Arc<HostResources>) -> std::io::Result<Self> {
        if resources.network.is_none() {
            return Ok(Self {
                resources,
                ready: None,
            });
        }
        let (give, ready) = mpsc::sync_channel(READY);
        let refiller = resources.clone();
        std::thread::Builder::new()
            .name("networks".into())
            .spawn(move || refill(&refiller, &give))?;
        Ok(Self {
            resources,
            ready: Some(Mutex::new(ready)),
        })
    }

    /// Takes a ready identity, or makes one.
    pub(crate) fn take(&self) -> Result<InstanceIdentity, Error> {
        let ready = self.ready.as_ref().and_then(|ready| {
            let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.try_recv().ok()
        });
        match ready {
            Some(identity) => Ok(identity),
            None => InstanceIdentity::make(&self.resources),
        }
    }
}

fn refill(resources: &Arc<HostResources>, give: &SyncSender<InstanceIdentity>) {
    loop {
        match InstanceIdentity::make(resources) {
            Ok(identity) => {
                if give.send(identity).is_err() {
                    return;
                }
            }
            // A start that needs an identity makes one itself and reports the error.
            Err(_) if resources.is_closed() => return,
            Err(_) => std::thread::sleep(RETRY_DELAY),
        }
    }
}
