//! Buckets: the object server with this installation's accounts, disk and addresses.
//!
//! Owns the bucket listeners and who may do what there. Never knows functions, nor the other gateways' actions.
#![forbid(unsafe_code)]

mod authorizer;
mod connection;
mod header_case;
mod listen;
mod permission;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use access::Access;
use bucket::{BucketServer, ChangeObserver, Hosts, Remote, Settings, Store, StoreError};
use sandbox::network::API_NAME;
use serde::Deserialize;
use thiserror::Error;

use self::authorizer::BucketAuthorizer;
pub use self::listen::{Callers, register_gauges, serve};
pub use self::permission::policy_actions;

/// Directory of buckets in the data directory.
const DIRECTORY: &str = "buckets";

/// The operator's settings.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// The address of the listener.
    pub listen: SocketAddr,
    /// The address of the TLS listener, if there is one.
    pub tls_listen: Option<SocketAddr>,
    /// Domains of the buckets' host names.
    pub domains: Vec<String>,
    /// Maximum size of all objects and their index (bytes).
    pub store_bytes: u64,
    /// The storage of the bytes; `None` = the data directory.
    pub external_storage: Option<ExternalStorage>,
}

/// An S3 that holds the bytes of objects.
#[derive(Clone, Debug)]
pub struct ExternalStorage {
    /// Its URL.
    pub endpoint: String,
    /// The bucket there.
    pub bucket: String,
    /// Its region.
    pub region: String,
    /// The file with its credentials.
    pub credentials: PathBuf,
}

/// Reason why buckets cannot be served.
#[derive(Debug, Error)]
pub enum BucketsError {
    /// The store cannot be opened.
    #[error("buckets in {path}: {source}")]
    Store {
        /// The file.
        path: String,
        /// The cause.
        source: StoreError,
    },
    /// The credentials of the external storage cannot be read.
    #[error(
        "{path}: {why}; name a JSON file with access_key_id and secret_access_key with --bucket-s3-credentials"
    )]
    Credentials {
        /// The file.
        path: String,
        /// The reason.
        why: String,
    },
    /// The external storage cannot be used.
    #[error(
        "external storage: {0}; check --bucket-s3-endpoint, --bucket-s3-bucket and --bucket-s3-region"
    )]
    ExternalStorage(StoreError),
}

/// Credentials of the external storage.
#[derive(Deserialize)]
struct ExternalStorageKey {
    access_key_id: String,
    secret_access_key: String,
}

/// Opens the object store.
///
/// # Errors
/// The store or its external storage cannot be opened. The error says how to fix it.
pub fn open(
    data: &Path,
    settings: &BucketSettings,
    observer: Arc<dyn ChangeObserver>,
) -> Result<Store, BucketsError> {
    let directory = data.join(DIRECTORY);
    let limits = Settings {
        budget_bytes: settings.store_bytes,
        ..Settings::default()
    };
    let opened = match &settings.external_storage {
        None => Store::open(&directory, limits, observer),
        Some(external_storage) => {
            Store::open_on(&directory, backend(external_storage)?, limits, observer)
        }
    };
    opened.map_err(|source| BucketsError::Store {
        path: directory.display().to_string(),
        source,
    })
}

/// Creates the bucket server for this installation's accounts.
pub fn service(store: Store, access: Access, settings: &BucketSettings) -> BucketServer {
    let domains = settings
        .domains
        .iter()
        .cloned()
        .chain([API_NAME.to_owned()]);
    let authorizer = Arc::new(BucketAuthorizer::new(access));
    BucketServer::new(store, authorizer, Hosts::new(domains))
}

fn backend(external_storage: &ExternalStorage) -> Result<bucket::Backend, BucketsError> {
    let path = &external_storage.credentials;
    let read = || -> Result<ExternalStorageKey, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    };
    let pair = read().map_err(|why| BucketsError::Credentials {
        path: path.display().to_string(),
        why: why.to_string(),
    })?;
    let remote = Remote {
        endpoint: &external_storage.endpoint,
        bucket: &external_storage.bucket,
        region: &external_storage.region,
        key_id: &pair.access_key_id,
        secret: &pair.secret_access_key,
    };
    remote.backend().map_err(BucketsError::ExternalStorage)
}
