//! The function record and its parts, as the catalog stores them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Alias, CodeRef, DeadLetter, EventConfig, FunctionId, FunctionKey, Handler, Invalid, LayerRef,
    Limits, MemoryMb, Namespace, PublishedVersion, RoleName, Runtime, Sha256, Trigger,
};

/// Milliseconds since the Unix epoch (UTC).
pub type Timestamp = i64;

/// A non-zero duration in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(u32);

impl Seconds {
    /// Parses a function's Timeout: 1 to the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Timeout`.
    pub fn timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within("Timeout", given, limits.timeout_max_s)
    }

    /// Parses the Timeout of a function with asynchronous execution.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Timeout`.
    pub fn async_timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within("Timeout", given, limits.async_timeout_max_s)
    }

    /// Parses a function's InitTimeout: 1 to the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for the field `InitTimeout`.
    pub fn init_timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within("InitTimeout", given, limits.init_timeout_max_s)
    }

    fn within(field: &'static str, given: i64, max: u32) -> Result<Self, Invalid> {
        match u32::try_from(given) {
            Ok(seconds) if (1..=max).contains(&seconds) => Ok(Self(seconds)),
            _ => Err(Invalid::new(field, given, format!("1 to {max} (seconds)"))),
        }
    }

    /// Returns the duration in seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// The invocation model of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionKind {
    /// A handler called with a JSON event.
    #[default]
    Event,
    /// A web server that receives HTTP requests.
    Http,
}

/// The lifecycle state of a function, with SCF's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionState {
    /// Created; its code is being prepared.
    Creating,
    /// Preparing its code failed; see the status reasons.
    CreateFailed,
    /// Serves requests.
    Active,
    /// Serves the old code while new code is prepared.
    Updating,
    /// Serves the old code; preparing new code failed, see the status reasons.
    UpdateFailed,
    /// Rejects new requests and drains running ones.
    Deleting,
}

impl FunctionState {
    /// Returns whether the function can be invoked.
    pub fn serves(self) -> bool {
        matches!(self, Self::Active | Self::Updating | Self::UpdateFailed)
    }

    /// Returns whether code or configuration can be updated.
    pub fn allows_update(self) -> bool {
        matches!(self, Self::Active | Self::CreateFailed | Self::UpdateFailed)
    }

    /// Returns the SCF name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::CreateFailed => "CreateFailed",
            Self::Active => "Active",
            Self::Updating => "Updating",
            Self::UpdateFailed => "UpdateFailed",
            Self::Deleting => "Deleting",
        }
    }
}

/// The reason for a function's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReason {
    /// API reason code.
    pub code: String,
    /// Free-form description.
    pub message: String,
}

/// The user-configurable settings of a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Description, up to 1,000 characters.
    pub description: String,
    /// Entry point.
    pub handler: Handler,
    /// Memory size of an instance. Its CPU weight is proportional.
    pub memory: MemoryMb,
    /// Maximum duration of an invocation.
    pub timeout: Seconds,
    /// Maximum duration of an instance start.
    pub init_timeout: Seconds,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Whether it has network access beyond virga's own services.
    #[serde(default = "enabled", skip_serializing_if = "is_true")]
    pub public_net: bool,
    /// Role that its code assumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// Layers mounted at `/opt`, the later over the earlier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
    /// Settings of a web function.
    #[serde(default, skip_serializing_if = "WebConfig::is_default")]
    pub web: WebConfig,
    /// Destination of events that failed permanently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// API fields that are stored and returned without effect, by wire name.
    pub echo: BTreeMap<String, serde_json::Value>,
}

/// Settings of a web function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebConfig {
    /// Concurrent requests per instance; none for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<InstanceConcurrency>,
    /// Idle timeout of WebSocket connections (s), if WebSocket is declared; none for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket_idle: Option<u32>,
}

impl WebConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Concurrent requests per instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceConcurrency {
    /// Maximum. Stored as `most`.
    #[serde(rename = "most")]
    pub max: u32,
    /// Whether the platform may lower it dynamically; stored and returned, without effect yet.
    pub dynamic: bool,
}

/// Default of a field that older records lack.
fn enabled() -> bool {
    true
}

/// Returns whether a field that is `true` by default can be omitted.
fn is_true(value: &bool) -> bool {
    *value
}

/// Returns whether a field that is `false` by default can be omitted.
fn is_false(value: &bool) -> bool {
    !value
}

/// Returns whether a count that is 0 by default can be omitted.
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A function with its versions, aliases and triggers, as the catalog stores it. Its own settings and code are `$LATEST`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// Stable id.
    pub id: FunctionId,
    /// Account, namespace and name.
    pub key: FunctionKey,
    /// Invocation model. Fixed at creation.
    pub kind: FunctionKind,
    /// Language runtime. Fixed at creation.
    pub runtime: Runtime,
    /// Settings of `$LATEST`.
    pub config: FunctionConfig,
    /// Code of `$LATEST`; none until the first package is prepared.
    pub code: Option<CodeRef>,
    /// Code being prepared.
    pub pending: Option<PendingCode>,
    /// Lifecycle state.
    pub state: FunctionState,
    /// Reasons for the state.
    pub reasons: Vec<StatusReason>,
    /// Revision of code and configuration. Instances of an older revision are retired.
    pub revision: u64,
    /// Creation time.
    pub added: Timestamp,
    /// Last modification time.
    pub modified: Timestamp,
    /// Tags, key and value.
    pub tags: BTreeMap<String, String>,
    /// Reserved concurrency (MB): capacity dedicated to its instances, and their upper limit. None uses the account's
    /// unreserved quota; 0 throttles every invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_mb: Option<u32>,
    /// Retry policy of its asynchronous events; none for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventConfig>,
    /// Asynchronous execution: every invocation runs asynchronously, for up to a day, without retries. Fixed at creation.
    #[serde(default, skip_serializing_if = "is_false")]
    pub async_run: bool,
    /// published versions by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u64, PublishedVersion>,
    /// Highest version number ever assigned. Numbers are never reused.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_version: u64,
    /// Aliases by name. `$DEFAULT` is present only if it was changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, Alias>,
    /// Triggers. Changing them leaves `revision` alone, so that instances keep running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
}

/// Accepted code that is being prepared. It is stored in the function record, so that a restart resumes the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCode {
    /// Package as uploaded.
    pub package: Sha256,
    /// Size of the zipped package (bytes).
    pub size: u64,
    /// Whether to install the dependencies in `requirements.txt`.
    pub install: bool,
    /// New entry point, if it changes with the code.
    pub handler: Option<Handler>,
    /// Whether to publish a version once it is ready.
    #[serde(default, skip_serializing_if = "is_false")]
    pub publish: bool,
}

/// A namespace, as the catalog stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Name.
    pub name: Namespace,
    /// Free-form description.
    pub description: String,
    /// Creation time.
    pub added: Timestamp,
    /// Last modification time.
    pub modified: Timestamp,
}
