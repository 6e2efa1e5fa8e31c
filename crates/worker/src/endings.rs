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
pub(crate) struct Endings {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    awaited: HashMap<u64, oneshot::Sender<ExitStatus>>,
}

impl Endings {
    /// Hears of them from a zygote, until that has ended. Must be called within a tokio runtime.
    pub(crate) fn hear(pipe: OwnedFd) -> io::Result<Arc<Self>> {
        let mut pipe = Receiver::from_owned_fd(pipe)?;
        let endings = Arc::new(Self::default());
        let told = endings.clone();
        tokio::spawn(async move {
            let mut bytes = [0; Ended::BYTES];
            while pipe.read_exact(&mut bytes).await.is_ok() {
                let Ended { number, status } = Ended::read(bytes);
                let awaited = told.state().awaited.remove(&number);
                // Nobody waits where virga is stopping.
                let _ = awaited.map(|awaited| awaited.send(status));
            }
            told.state().awaited.clear();
        });
        Ok(endings)
    }

    /// The number for a handler that is about to be made, and its end; an error when that is never told.
    pub(crate) fn expect(&self) -> (u64, oneshot::Receiver<ExitStatus>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.awaited.insert(number, sender);
        (number, receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
