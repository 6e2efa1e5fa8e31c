//! What tells instances apart: a user id and a network namespace, made for one and never given to another.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Error;
use crate::process::Home;

/// How many wait ready: making one takes the kernel about as long as a blank takes the zygote.
const READY: usize = 8;
/// Pause after one could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// One instance's. Its user goes back when it is dropped, unless [`Self::into_user`] has taken it out.
#[derive(Debug)]
pub(crate) struct Identity {
    user: Option<u32>,
    /// None where functions have no network.
    network: Option<OwnedFd>,
    home: Arc<Home>,
}

impl Identity {
    /// Makes one.
    ///
    /// # Errors
    /// When all users are in use, or the kernel refuses a namespace.
    pub(crate) fn make(home: &Arc<Home>) -> Result<Self, Error> {
        let mut identity = Self::without_network(home)?;
        if let Some(network) = &home.network {
            identity.network = Some(network.make(home.users.number(identity.user()))?);
        }
        Ok(identity)
    }

    /// The same for what needs no network.
    ///
    /// # Errors
    /// When all users are in use.
    pub(crate) fn without_network(home: &Arc<Home>) -> Result<Self, Error> {
        Ok(Self {
            user: Some(home.users.acquire()?),
            network: None,
            home: home.clone(),
        })
    }

    pub(crate) fn user(&self) -> u32 {
        // Only `into_user` leaves none, and it takes all of this with it.
        self.user.unwrap_or_default()
    }

    pub(crate) fn network(&self) -> Option<&OwnedFd> {
        self.network.as_ref()
    }

    /// Gives the user over to whoever gives it back later. The namespace lives on in its processes.
    pub(crate) fn into_user(mut self) -> u32 {
        self.user.take().unwrap_or_default()
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        if let Some(user) = self.user {
            self.home.users.release(user);
        }
    }
}

/// Some that were made ahead of need, by a thread that ends with this.
#[derive(Debug)]
pub(crate) struct Identities {
    home: Arc<Home>,
    ready: Option<Mutex<Receiver<Identity>>>,
}

impl Identities {
    pub(crate) fn start(home: Arc<Home>) -> std::io::Result<Self> {
        if home.network.is_none() {
            return Ok(Self { home, ready: None });
        }
        let (give, ready) = mpsc::sync_channel(READY);
        let maker = home.clone();
        std::thread::Builder::new()
            .name("networks".into())
            .spawn(move || keep_making(&maker, &give))?;
        Ok(Self {
            home,
            ready: Some(Mutex::new(ready)),
        })
    }

    /// One that waits, or one made now.
    pub(crate) fn take(&self) -> Result<Identity, Error> {
        let ready = self.ready.as_ref().and_then(|ready| {
            let ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.try_recv().ok()
        });
        match ready {
            Some(identity) => Ok(identity),
            None => Identity::make(&self.home),
        }
    }
}

fn keep_making(home: &Arc<Home>, give: &SyncSender<Identity>) {
    loop {
        match Identity::make(home) {
            Ok(identity) => {
                if give.send(identity).is_err() {
                    return;
                }
            }
            // Whoever needs one tries for itself, and tells.
            Err(_) if home.is_closed() => return,
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
