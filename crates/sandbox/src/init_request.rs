//! Messages between virga and the maker of sandbox inits.

use serde::{Deserialize, Serialize};

/// Parameters of a sandbox init. The descriptor of its network namespace is sent along, if it has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitRequest {
    /// User and group id, unique to the instance.
    pub uid: u32,
    /// Host name inside.
    pub hostname: String,
    /// Size of `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// Maximum number of files and directories in `/tmp`.
    pub tmp_inodes: u64,
}

/// Reply to an [`InitRequest`]. A pidfd of the sandbox init is sent along on success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum InitReply {
    /// The sandbox init is ready.
    Made,
    /// The step that failed.
    Failed(String),
}
