//! The reasons why an event or invocation is rejected.

use events::QueueError;
use model::{FunctionKey, FunctionState, Invalid, Qualifier};
use thiserror::Error;

use crate::driver::OpenError;

/// The reason why an event or invocation was rejected. Later failures are in [`super::InvocationResult`].
#[derive(Debug, Error)]
pub enum IngestError {
    /// The function does not exist.
    #[error("function {} does not exist in namespace {}", .0.name, .0.namespace)]
    NoFunction(FunctionKey),
    /// The namespace does not exist.
    #[error("namespace {} does not exist", .0.namespace)]
    NoNamespace(FunctionKey),
    /// The function has no such version or alias.
    #[error("function {} has no version or alias {qualifier}", key.name)]
    NoQualifier {
        /// The function.
        key: FunctionKey,
        /// The version or alias.
        qualifier: Qualifier,
    },
    /// The function cannot be invoked in its state.
    #[error("function {name} is {state}, so it cannot be invoked{why}", state = state.as_str())]
    State {
        /// The name.
        name: String,
        /// The state.
        state: FunctionState,
        /// The reason.
        why: String,
    },
    /// A value is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The event is too large.
    #[error("the event has {given} bytes; up to {allowed} are allowed")]
    TooLarge {
        /// Its bytes.
        given: usize,
        /// Allowed bytes.
        allowed: u64,
    },
    /// The function has no pool.
    #[error("function {name} cannot be served: {source}")]
    Open {
        /// The name.
        name: String,
        /// The cause.
        source: OpenError,
    },
    /// A web function takes no events.
    #[error(
        "function {0} is a web function, which takes no events; it is reached by its URL or a custom domain"
    )]
    Web(String),
    /// virga is shutting down.
    #[error("virga is shutting down; try again in a moment")]
    Draining,
    /// The event queue did not accept the event.
    #[error(transparent)]
    Queue(#[from] QueueError),
}
