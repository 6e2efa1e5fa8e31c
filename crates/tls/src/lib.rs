//! TLS for the listeners, with the operator's certificate or one of the local authority.
//!
//! Owns certificates, their renewal, and the local authority. Never knows the protocol above it.
#![forbid(unsafe_code)]

mod authority;
mod error;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use hosts::CertificateNames;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use self::authority::Certificates;
pub use self::authority::{CA, DIRECTORY, SUBJECT_HASH, api_names, bucket_names};
pub use self::error::TlsError;

/// Interval at which the certificate's files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Age at which a certificate of the local authority is renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(7 * 86_400);

/// The operator's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The address of the listener.
    pub listen: SocketAddr,
    /// Where the certificate comes from.
    pub source: Source,
}

/// The source of the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Two files, loaded again when they change.
    Files {
        /// The certificate chain (PEM).
        cert: PathBuf,
        /// Its private key (PEM).
        key: PathBuf,
    },
    /// The local authority in the data directory.
    Authority,
}

/// A TLS acceptor whose certificate is renewed until this is dropped.
#[derive(Debug)]
pub struct Tls {
    acceptor: Acceptor,
    refresher: JoinHandle<()>,
}

/// A wrapper with an implementation of `Debug`.
struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Tls {
    /// Returns the acceptor for sockets.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.0.clone()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

/// Loads the certificate and starts its renewal, which also updates `names`. A certificate of the authority covers the
/// cloud's regions and `region`, and the hosts of buckets below `domains`.
///
/// # Errors
/// The certificate cannot be used.
pub fn open(
    settings: &TlsSettings,
    data: &Path,
    names: CertificateNames,
    region: &str,
    domains: &[String],
) -> Result<Tls, TlsError> {
    let loader = CertificateLoader {
        source: settings.source.clone(),
        directory: data.join(DIRECTORY),
        listen: settings.listen.ip(),
        names,
        region: region.to_owned(),
        extra_names: if domains.is_empty() {
            Vec::new()
        } else {
            authority::bucket_names(domains, region)
        },
    };
    let current = Arc::new(Current(RwLock::new(loader.make()?)));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls {
        acceptor: Acceptor(TlsAcceptor::from(Arc::new(config))),
        refresher: tokio::spawn(refresh(loader, current)),
    })
}

/// The current certificates.
struct Current(RwLock<Certificates>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(current.find(hello.server_name()))
    }
}

/// Renews the certificate when its files have changed or it is old. A faulty one is logged and the previous one stays in
/// use.
async fn refresh(loader: CertificateLoader, current: Arc<Current>) {
    let mut fingerprint = loader.fingerprint();
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        let now = loader.fingerprint();
        if now == fingerprint {
            continue;
        }
        fingerprint = now;
        match loader.make() {
            Ok(made) => {
                *current.0.write().unwrap_or_else(PoisonError::into_inner) = made;
                info!("the certificate was renewed");
            }
            Err(error) => {
                warn!(%error, "the changed certificate cannot be used; the previous one stays in use")
            }
        }
    }
}

struct CertificateLoader {
    source: Source,
    directory: PathBuf,
    listen: IpAddr,
    names: CertificateNames,
    region: String,
    /// Names of buckets' hosts, for a certificate of the authority.
    extra_names: Vec<String>,
}

impl CertificateLoader {
    /// Returns a value that changes when the certificate must be renewed.
    fn fingerprint(&self) -> Vec<Option<(SystemTime, u64)>> {
        let stamp = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len()))
        };
        match &self.source {
            Source::Files { cert, key } => vec![stamp(cert), stamp(key)],
            Source::Authority => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let count = since.map_or(0, |since| since.as_secs() / RENEW_INTERVAL.as_secs());
                vec![Some((SystemTime::UNIX_EPOCH, count))]
            }
        }
    }

    fn make(&self) -> Result<Certificates, TlsError> {
        let made = match &self.source {
            Source::Files { cert, key } => Certificates::one(from_files(cert, key)?),
            Source::Authority => authority::certificates(
                &self.directory,
                self.listen,
                &self.region,
                &self.extra_names,
            )?,
        };
        let mut names = Vec::new();
        for certificate in made.all() {
            let own = certificate.end_entity_cert()?;
            let read = webpki::EndEntityCert::try_from(own).map_err(|why| TlsError::Names {
                why: why.to_string(),
            })?;
            names.extend(read.valid_dns_names().map(str::to_owned));
        }
        self.names.set(names.iter().map(String::as_str));
        Ok(made)
    }
}

fn from_files(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path, option| {
        let path = path.display().to_string();
        move |why: &dyn fmt::Display| TlsError::File {
            path: path.clone(),
            why: why.to_string(),
            option,
        }
    };
    let bad_cert = file(cert, "tls-cert");
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| bad_cert(&e))?;
    if chain.is_empty() {
        return Err(bad_cert(&"it holds no certificate"));
    }
    let bad_key = file(key, "tls-key");
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad_key(&e))?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(|e| TlsError::Pair {
        cert: cert.display().to_string(),
        key: key.display().to_string(),
        why: e.to_string(),
    })
}
