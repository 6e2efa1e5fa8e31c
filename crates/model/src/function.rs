//! The function record and its parts, as the catalog stores them.

mod triggers;
mod versions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::versions::Serving;
use crate::{
    Alias, CodeRef, EventConfig, FunctionConfig, FunctionId, FunctionKey, FunctionKind, Handler,
    Namespace, PublishedVersion, Runtime, Sha256, Timestamp, Trigger,
};

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

impl Function {
    /// Returns the maximum memory of the function's provisioned instances, over all versions (MB).
    pub fn provisioned_mb(&self) -> u32 {
        let versions = self.versions.values().map(PublishedVersion::provisioned_mb);
        versions.fold(0, u32::saturating_add)
    }

    /// Returns the part of the account's quota committed to this function (MB): its reserved concurrency, or else its
    /// provisioned maximum.
    pub fn committed_mb(&self) -> u32 {
        self.reserved_mb.unwrap_or_else(|| self.provisioned_mb())
    }
}
