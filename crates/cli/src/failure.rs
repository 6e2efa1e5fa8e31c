//! How a command fails, and its exit code.

use super::client::ClientError;

/// The error of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the function failed")]
    Function,
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Function => 1,
            Self::Usage(_) => 2,
            Self::Client(error) if error.is_authentication() => 4,
            Self::Client(_) | Self::Io(_) => 3,
        }
    }
}
