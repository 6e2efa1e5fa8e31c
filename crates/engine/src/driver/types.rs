//! The driver's settings and results.

use std::sync::Arc;
use std::time::Duration;

use access::{Access, CallChains};
use dispatch::{Limit, PoolId, Reject};
use model::{Failure, FunctionId, Outcome, Serving, Usage};
use telemetry::ColdStart;
use thiserror::Error;
use tokio::sync::oneshot;
use worker::{InstanceSpec, PlatformInfo};

/// Configuration of the driver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The dispatcher's settings.
    pub dispatch: dispatch::Config,
    /// Idle time before an instance is evicted.
    pub keep_alive: Duration,
    /// Idle time before an instance is frozen.
    pub freeze_after: Duration,
    /// Maximum wait of a request for an instance when none is starting.
    pub wait: Duration,
    /// The platform as functions see it.
    pub platform: Arc<PlatformInfo>,
    /// Issues credentials for functions and knows their accounts' owners.
    pub access: Access,
    /// Tracks call chains by instance.
    pub call_chains: CallChains,
    /// Minimum validity of a function's credentials.
    pub role_session: Duration,
}

/// The open pool of a function's revision.
#[derive(Debug)]
pub struct LivePool {
    pub(crate) pool: PoolId,
    pub(super) id: FunctionId,
    pub(super) revision: u64,
    /// The specification of its instances.
    pub spec: Arc<InstanceSpec>,
    /// Note on the runtime or environment for the function's log.
    pub note: Option<String>,
}

impl LivePool {
    /// Returns whether it is the pool of a version's current revision.
    pub(super) fn serves(&self, serving: &Serving<'_>) -> bool {
        self.id == serving.function.id && self.revision == serving.revision
    }
}

/// Status of a version's provisioned instances.
#[derive(Clone, Debug)]
pub(crate) struct ProvisionedStatus {
    /// Provisioned minimum.
    pub(crate) provisioned_min: usize,
    /// Ready instances, idle or busy.
    pub(crate) ready: usize,
    /// Error of the last start, if none has succeeded since.
    pub(crate) last_error: Option<String>,
    /// The limit that blocks further starts.
    pub(crate) blocked_by: Option<Limit>,
}

/// Reason why a function cannot be served.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The interpreter, the code or the sandbox failed.
    #[error(transparent)]
    Worker(#[from] worker::Error),
    /// The function has no code yet.
    #[error("the function has no code yet")]
    NoCode,
}

/// The outcome of a request, with the cost of its cold start if there was one.
#[derive(Debug)]
pub struct CompletedRun {
    /// The outcome.
    pub outcome: Outcome,
    /// The cold start, if the request waited for one.
    pub cold: Option<ColdStart>,
    /// Output while the handler was loaded.
    pub init_log: Vec<u8>,
}

/// Reason why a request was not run.
#[derive(Debug)]
pub enum AcquireError {
    /// Rejected by dispatch.
    Rejected(Reject),
    /// Its instance failed to start.
    Start(StartFailure),
}

/// Log, usage and cause of a failed start.
#[derive(Debug)]
pub struct StartFailure {
    /// The reason.
    pub failure: Failure,
    /// Output while the handler was loaded.
    pub log: Vec<u8>,
    /// The measured duration and memory.
    pub usage: Usage,
}

/// Options for acquiring an instance.
#[derive(Debug, Default)]
pub struct AcquireOptions {
    /// Maximum wait; the configured one by default.
    pub timeout: Option<Duration>,
    /// Dropped as soon as the request is assigned or queued; kept if it is rejected.
    pub(crate) on_queued: Option<oneshot::Sender<()>>,
}
