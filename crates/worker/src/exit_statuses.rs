//! Exit statuses of the handlers that a zygote forked.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox::guest::{Ended, ExitStatus};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

/// Handlers whose exit status is awaited.
#[derive(Debug, Default)]
pub(crate) struct ExitStatuses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<ExitStatus>>,
}

impl ExitStatuses {
    /// Receives exit statuses from a zygote until it ends. Must be called within a tokio runtime.
    pub(crate) fn receive(pipe: OwnedFd) -> io::Result<Arc<Self>> {
        let mut pipe = Receiver::from_owned_fd(pipe)?;
        let exit_statuses = Arc::new(Self::default());
        let statuses = exit_statuses.clone();
        tokio::spawn(async move {
            let mut bytes = [0; Ended::BYTES];
            while pipe.read_exact(&mut bytes).await.is_ok() {
                let Ended { number, status } = Ended::read(bytes);
                let waiting = statuses.state().waiting.remove(&number);
                // At shutdown nobody waits any more.
                let _ = waiting.map(|waiting| waiting.send(status));
            }
            statuses.state().waiting.clear();
        });
        Ok(exit_statuses)
    }

    /// Allocates the number of a handler that is about to be forked, and returns it with a receiver of its exit status.
    /// The receiver fails if the zygote ends first.
    pub(crate) fn expect(&self) -> (u64, oneshot::Receiver<ExitStatus>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number, sender);
        (number, receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
