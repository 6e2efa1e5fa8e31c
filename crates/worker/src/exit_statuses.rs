//! How the handlers of a zygote's instances ended.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandbox::guest::{Ended, ExitStatus};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

/// Those that are waited for.
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
    /// Hears of them from a zygote, until that has ended. Must be called within a tokio runtime.
    pub(crate) fn receive(pipe: OwnedFd) -> io::Result<Arc<Self>> {
        let mut pipe = Receiver::from_owned_fd(pipe)?;
        let exit_statuses = Arc::new(Self::default());
        let statuses = exit_statuses.clone();
        tokio::spawn(async move {
            let mut bytes = [0; Ended::BYTES];
            while pipe.read_exact(&mut bytes).await.is_ok() {
                let Ended { number, status } = Ended::read(bytes);
                let waiting = statuses.state().waiting.remove(&number);
                // Nobody waits where virga is stopping.
                let _ = waiting.map(|waiting| waiting.send(status));
            }
            statuses.state().waiting.clear();
        });
        Ok(exit_statuses)
    }

    /// The number for a handler that is about to be made, and its end; an error when that is never told.
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
