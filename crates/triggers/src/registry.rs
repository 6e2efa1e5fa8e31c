//! The registry of kinds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::cos::Relay;
use super::external::ExternalStorages;
use super::timer::Timers;
use super::trigger::{Context, Receiver, StartError, Trigger};

/// All kinds with an event source, in the order of their start.
pub const KINDS: &[Kind] = &[
    Kind::of::<Timers>(),
    Kind::of::<Relay>(),
    Kind::of::<ExternalStorages>(),
];

type Starting<'a> = Pin<Box<dyn Future<Output = Result<Option<Running>, StartError>> + Send + 'a>>;
type Stopping = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An entry of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Name in log messages.
    pub name: &'static str,
    start: for<'a> fn(&'a Context) -> Starting<'a>,
}

impl Kind {
    const fn of<T: Trigger>() -> Self {
        Self {
            name: T::NAME,
            start: |context| Box::pin(start::<T>(context)),
        }
    }

    /// Starts the kind. `None` if this installation has no such event source.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub async fn start(&self, context: &Context) -> Result<Option<Running>, StartError> {
        (self.start)(context).await
    }
}

async fn start<T: Trigger>(context: &Context) -> Result<Option<Running>, StartError> {
    let running = T::start(context).await?.map(|trigger| Running {
        name: T::NAME,
        receiver: trigger.receiver(),
        stop: Box::new(|| Box::pin(trigger.stop())),
    });
    Ok(running)
}

/// A started kind.
pub struct Running {
    name: &'static str,
    receiver: Option<Arc<dyn Receiver>>,
    stop: Box<dyn FnOnce() -> Stopping + Send>,
}

impl Running {
    /// Returns its receiver of notifications, if it has one.
    pub fn receiver(&self) -> Option<Arc<dyn Receiver>> {
        self.receiver.clone()
    }

    /// Stops it, see [`Trigger::stop`].
    pub async fn stop(self) {
        (self.stop)().await;
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Running").field(&self.name).finish()
    }
}
