//! Triggers: event sources that invoke functions. Each kind is a file or directory with its [`Trigger`], and a line in the
//! [registry](KINDS). It follows the catalog and submits its events to [`engine::invoke::Ingest`].
//!
//! Kinds whose events are requests to functions (URLs, APIs of the API gateway) have nothing to start: the crate `urls`
//! serves their requests.
//!
//! Owns when and why an event is created: timers, changes of objects. Never knows how an event runs, nor the API.
#![forbid(unsafe_code)]

mod cos;
mod external;
mod ids;
mod registry;
mod timer;
mod trigger;

pub use cos::ObjectTriggers;
pub use external::{EventSource, EventSources};
pub use registry::{KINDS, Kind, Running};
pub use timer::Settings as TimerSettings;
pub use trigger::{Context, Receipt, Receiver, Rejection, Sender, Settings, StartError, Trigger};
