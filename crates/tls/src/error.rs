//! The errors of TLS.

use thiserror::Error;

/// The reason why TLS cannot be started, with the fix.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{path}: {why}; name a PEM file that can be read with --{option}")]
    File {
        /// The file.
        path: String,
        /// The reason.
        why: String,
        /// The option that names the file.
        option: &'static str,
    },
    /// The certificate and the key do not belong together, or are of an unsupported kind.
    #[error(
        "the certificate {cert} and the key {key} do not belong together, or are of an unsupported kind: {why}"
    )]
    Pair {
        /// The file of the certificate.
        cert: String,
        /// The file of the key.
        key: String,
        /// The reason.
        why: String,
    },
    /// The local authority cannot be loaded or created.
    #[error("the local authority in {path}: {why}; remove the directory to create a new authority")]
    Authority {
        /// The file.
        path: String,
        /// The reason.
        why: String,
    },
    /// The certificate's names cannot be read.
    #[error("the certificate's names cannot be read: {why}; use one of X.509 version 3")]
    Names {
        /// The reason.
        why: String,
    },
    /// The TLS library refused the settings.
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}
