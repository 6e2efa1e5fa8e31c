//! All that an instance is made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{FunctionKey, FunctionKind, Handler, MemoryMb, RoleName, Version};

use crate::Interpreter;

/// Where functions believe they run: what SCF tells them of their surroundings.
#[derive(Clone, Debug)]
pub struct PlatformInfo {
    /// Region name.
    pub region: String,
    /// The account's Uin.
    pub uin: String,
    /// Where functions find virga's own API, if they have a network.
    pub endpoint: Option<String>,
    /// Where they find virga's buckets, if it serves any.
    pub buckets: Option<String>,
    /// Whether they trust virga's own certificate authority, which vouches for the cloud's names.
    pub trusts_authority: bool,
}

/// Credentials that an instance acts with.
#[derive(Clone)]
pub struct Credentials {
    /// `TENCENTCLOUD_SECRETID`.
    pub id: String,
    /// `TENCENTCLOUD_SECRETKEY`.
    pub key: String,
    /// `TENCENTCLOUD_SESSIONTOKEN`.
    pub token: String,
    /// For how long an instance that has them is given requests.
    pub valid_for: Duration,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.id)
    }
}

/// One revision of one function version, ready to run.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The function.
    pub function: FunctionKey,
    /// Its version.
    pub version: Version,
    /// How it is called.
    pub kind: FunctionKind,
    /// The interpreter that serves it.
    pub interpreter: Arc<Interpreter>,
    /// Its entry point.
    pub handler: Handler,
    /// Its memory; its share of processor time follows from it.
    pub memory: MemoryMb,
    /// Longest run of one request.
    pub timeout: Duration,
    /// Longest start.
    pub init_timeout: Duration,
    /// In whose name it acts.
    pub role: Option<RoleName>,
    /// Whether it has a network beyond its loopback.
    pub public_net: bool,
    /// How long a connection of a web function may be silent, where that is said.
    pub silence: Option<Duration>,
    /// The user's variables.
    pub environment: Vec<(String, String)>,
    /// The unpacked code.
    pub code: PathBuf,
    /// The merged layers, if any.
    pub layers: Option<PathBuf>,
    /// Where it believes it runs.
    pub platform: Arc<PlatformInfo>,
}
