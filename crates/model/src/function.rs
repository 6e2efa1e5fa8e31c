//! What the catalog keeps of a function.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Alias, CodeRef, DeadLetter, EventConfig, FunctionId, FunctionKey, Handler, Invalid, LayerRef,
    Limits, MemoryMb, Namespace, Published, RoleName, Runtime, Sha256, Trigger,
};

/// Milliseconds since the Unix epoch, UTC.
pub type Timestamp = i64;

/// A span in whole seconds, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(u32);

impl Seconds {
    /// Checks a function's Timeout: 1 to the configured maximum.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Timeout`.
    pub fn timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within("Timeout", given, limits.timeout_max_s)
    }

    /// Checks the Timeout of a function that always runs asynchronously.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Timeout`.
    pub fn async_timeout(given: i64, limits: &Limits) -> Result<Self, Invalid> {
        Self::within("Timeout", given, limits.async_timeout_max_s)
    }

    /// Checks a function's InitTimeout: 1 to the configured maximum.
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

    /// The span in seconds.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// How a function is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionKind {
    /// A handler called with an event.
    #[default]
    Event,
    /// A web server that requests are passed on to.
    Http,
}

/// Where a function is in its life. SCF's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionState {
    /// Accepted; its code is not ready yet.
    Creating,
    /// Its code could not be made ready; the reasons say why.
    CreateFailed,
    /// Serves.
    Active,
    /// Serves the old code while the new is made ready.
    Updating,
    /// Serves the old code; the reasons say why the new one failed.
    UpdateFailed,
    /// Refuses new requests; running ones end.
    Deleting,
}

impl FunctionState {
    /// Whether the function can be invoked.
    pub fn serves(self) -> bool {
        matches!(self, Self::Active | Self::Updating | Self::UpdateFailed)
    }

    /// Whether a change of code or configuration may begin.
    pub fn may_change(self) -> bool {
        matches!(self, Self::Active | Self::CreateFailed | Self::UpdateFailed)
    }

    /// SCF's name of the state.
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

/// Why a function is in its state, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReason {
    /// One of the API's codes.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a user can set and change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionConfig {
    /// Up to 1,000 characters for people.
    pub description: String,
    /// The entry point.
    pub handler: Handler,
    /// Memory of one instance; its share of CPU grows with it.
    pub memory: MemoryMb,
    /// Longest run of one request.
    pub timeout: Seconds,
    /// Longest start of an instance.
    pub init_timeout: Seconds,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Whether it reaches more than its own loopback.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub public_net: bool,
    /// In whose name its code acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// What shows at `/opt`, one over the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerRef>,
    /// How a web function serves; nothing of it concerns others.
    #[serde(default, skip_serializing_if = "WebConfig::is_usual")]
    pub web: WebConfig,
    /// Where events go that are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// Fields that are accepted and shown again but have no effect yet, by their wire names.
    pub echo: BTreeMap<String, serde_json::Value>,
}

/// How a web function serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebConfig {
    /// Requests that an instance serves at a time, where that is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Whether it is said to speak WebSocket, and how long a connection may be silent; else the usual time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket_idle: Option<u32>,
}

impl WebConfig {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// Requests that an instance serves at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The most.
    pub most: u32,
    /// Whether the platform may choose less, which it does not do yet.
    pub dynamic: bool,
}

/// What a record without the field holds for it, as all do that are older.
fn yes() -> bool {
    true
}

/// Whether a field can be left out.
fn is_yes(value: &bool) -> bool {
    *value
}

/// The same of a field whose absence means no.
fn is_no(value: &bool) -> bool {
    !value
}

/// The same of a count.
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A function as the catalog keeps it: `$LATEST`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// The stable id.
    pub id: FunctionId,
    /// Where it lives.
    pub key: FunctionKey,
    /// How it is called. Fixed at creation.
    pub kind: FunctionKind,
    /// Its language. Fixed at creation.
    pub runtime: Runtime,
    /// Its settings.
    pub config: FunctionConfig,
    /// The code that serves; none before the first is ready.
    pub code: Option<CodeRef>,
    /// Code that is being made ready.
    pub pending: Option<PendingCode>,
    /// Where it is in its life.
    pub state: FunctionState,
    /// Why.
    pub reasons: Vec<StatusReason>,
    /// Counts changes of code and configuration; instances of an older revision are retired.
    pub revision: u64,
    /// When it was created.
    pub added: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
    /// Tags, key and value.
    pub tags: BTreeMap<String, String>,
    /// Memory that is set aside for its instances, and all that they may have together, MB; none where it shares what the
    /// account has left. 0 stops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_mb: Option<u32>,
    /// How its events are tried; none where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventConfig>,
    /// Whether every request runs asynchronously, for up to a day, and once. Fixed at creation.
    #[serde(default, skip_serializing_if = "is_no")]
    pub async_run: bool,
    /// Its published versions, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<u64, Published>,
    /// The highest number that a version ever had; no other gets it again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_version: u64,
    /// Its aliases by name; `$DEFAULT` once it was changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, Alias>,
    /// What runs it, beside calls of the API. A change here is no change of what runs, so it leaves `revision` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
}

/// Code that was accepted and is being made ready. It is part of the record, so that a restart goes on with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCode {
    /// The package as it was uploaded.
    pub package: Sha256,
    /// Its size in bytes, zipped.
    pub size: u64,
    /// Whether what `requirements.txt` asks for is installed into it.
    pub install: bool,
    /// The entry point that comes with it, if it changes.
    pub handler: Option<Handler>,
    /// Whether a version is published when it is ready.
    #[serde(default, skip_serializing_if = "is_no")]
    pub publish: bool,
}

/// A namespace as the catalog keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRecord {
    /// Its name.
    pub name: Namespace,
    /// For people.
    pub description: String,
    /// When it was created.
    pub added: Timestamp,
    /// When it was last changed.
    pub modified: Timestamp,
}
