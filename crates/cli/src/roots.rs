//! Certificate verification of the command line's TLS connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use thiserror::Error;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

/// Paths of the system's trusted certificates.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The reason why there are no CA certificates.
#[derive(Debug, Error)]
pub(crate) enum RootsError {
    #[error(
        "failed to load certificates from {path}: {why}; set a PEM file with --ca, such as the output of virga ca on the server"
    )]
    File { path: String, why: String },
    #[error("this system has no trusted CA certificates; set a PEM file with --ca")]
    None,
}

/// Returns TLS settings that trust the certificates in a file, or the system's without one.
pub(super) fn config(file: Option<&Path>) -> Result<TlsConfig, RootsError> {
    let named = file.map(Path::to_owned);
    let configured = named.or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let own = || SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
    let path = configured.or_else(own).ok_or(RootsError::None)?;
    let wrong = |why: String| RootsError::File {
        path: path.display().to_string(),
        why,
    };
    let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let roots: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(wrong("it contains no certificate".to_owned()));
    }
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build())
}
