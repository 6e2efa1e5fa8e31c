//! Settings of the package managers.

use std::path::PathBuf;
use std::time::Duration;

/// The host's CA certificates, for an index with a certificate of the operator's own CA. pip and npm have built-in
/// lists.
pub(crate) const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Settings for installing dependencies.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// Timeout of an installation.
    pub timeout: Duration,
    /// URL of the package index for Python; `None` is pip's default.
    pub index: Option<String>,
    /// URL of the registry for Node.js; `None` is npm's default.
    pub registry: Option<String>,
    /// Host directories with packages for pip, which it may read.
    pub directories: Vec<PathBuf>,
    /// Whether the installation uses the host's network instead of the functions'.
    pub host_network: bool,
}
