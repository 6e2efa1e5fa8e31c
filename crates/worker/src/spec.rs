//! The specification of an instance.

use std::sync::Arc;
use std::time::Duration;

use model::{FunctionKey, FunctionKind, Handler, MemoryMb, RoleName, Runtime, Sha256, Version};

/// The platform as functions see it in their environment and context.
#[derive(Clone, Debug)]
pub struct PlatformInfo {
    /// Region name.
    pub region: String,
    /// Uin of the account.
    pub uin: String,
    /// URL of virga's API for functions, if they have a network.
    pub endpoint: Option<String>,
    /// URL of virga's buckets, if it serves any.
    pub buckets: Option<String>,
    /// Whether functions trust the local certificate authority, which certifies the cloud's host names.
    pub trusts_authority: bool,
}

/// Temporary credentials of an instance.
#[derive(Clone)]
pub struct Credentials {
    /// `TENCENTCLOUD_SECRETID`.
    pub id: String,
    /// `TENCENTCLOUD_SECRETKEY`.
    pub key: String,
    /// `TENCENTCLOUD_SESSIONTOKEN`.
    pub token: String,
    /// How long an instance that has them takes requests.
    pub valid_for: Duration,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.id)
    }
}

/// One revision of one function version. It names no paths, so that every node can run it: a node finds interpreter and files
/// when it starts an instance.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The function.
    pub function: FunctionKey,
    /// Its version.
    pub version: Version,
    /// Event function or web function.
    pub kind: FunctionKind,
    /// Its runtime, which an interpreter of the node serves.
    pub runtime: Runtime,
    /// Its handler.
    pub handler: Handler,
    /// Its memory, which also sets its CPU weight and limit.
    pub memory: MemoryMb,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Timeout of the start.
    pub init_timeout: Duration,
    /// Role whose credentials it has.
    pub role: Option<RoleName>,
    /// Whether it has a network beyond virga's own services.
    pub public_net: bool,
    /// Idle timeout of a web function's connections, if set.
    pub silence: Option<Duration>,
    /// Environment variables of the user.
    pub environment: Vec<(String, String)>,
    /// Its code: the digest of a package, or of the archive of a tree with installed dependencies.
    pub code: Sha256,
    /// The packages of its layers, later ones over earlier ones.
    pub layers: Vec<Sha256>,
    /// The platform as it sees it.
    pub platform: Arc<PlatformInfo>,
}
