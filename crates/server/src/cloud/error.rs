//! Why the cloud's names cannot be served.

use tls::TlsError;

/// Why the cloud's names cannot be served. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudError {
    #[error("{0}; --cloud-names off leaves the cloud's names to the host's resolvers")]
    Network(#[from] sandbox::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "cannot serve the cloud's names inside functions: {0}; --cloud-names off disables them"
    )]
    Io(#[from] std::io::Error),
}
