//! Buckets: the object server, with this installation's accounts, disk and addresses.

mod gate;
mod listen;
mod shelf;
mod spelling;
mod way;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bucket::{Hosts, Listeners, Remote, Serve, Settings, Store, StoreError};
use sandbox::network::API_NAME;
use serde::Deserialize;
use thiserror::Error;

use self::gate::BucketGate;
pub(crate) use self::listen::{Callers, serve};
pub(crate) use self::shelf::{Shelf, Unread};
use crate::access::Access;
use crate::config::{BucketSettings, Elsewhere};
use crate::listen::Door;

/// The directory of buckets in the data directory.
const DIRECTORY: &str = "buckets";

/// Why there are no buckets; each says how to mend it.
#[derive(Debug, Error)]
pub(crate) enum BucketsError {
    #[error("buckets in {path}: {source}")]
    Store { path: String, source: StoreError },
    #[error(
        "{path}: {why}; name a JSON file with access_key_id and secret_access_key with --bucket-s3-credentials"
    )]
    Credentials { path: String, why: String },
    #[error(
        "the S3 elsewhere: {0}; see --bucket-s3-endpoint, --bucket-s3-bucket and --bucket-s3-region"
    )]
    Elsewhere(StoreError),
}

/// Where buckets are served, before they are.
#[derive(Debug)]
pub(crate) struct Doors {
    pub(crate) plain: Door,
    pub(crate) address: SocketAddr,
    pub(crate) secure: Option<Door>,
}

/// The keys for an S3 elsewhere.
#[derive(Deserialize)]
struct Pair {
    access_key_id: String,
    secret_access_key: String,
}

/// Opens what holds the objects.
///
/// # Errors
/// What is wrong, and how to mend it.
pub(crate) fn open(
    data: &Path,
    settings: &BucketSettings,
    listeners: Arc<dyn Listeners>,
) -> Result<Store, BucketsError> {
    let directory = data.join(DIRECTORY);
    let kept = Settings {
        budget_bytes: settings.store_bytes,
        ..Settings::default()
    };
    let opened = match &settings.elsewhere {
        None => Store::open(&directory, kept, listeners),
        Some(elsewhere) => Store::open_on(&directory, backend(elsewhere)?, kept, listeners),
    };
    opened.map_err(|source| BucketsError::Store {
        path: directory.display().to_string(),
        source,
    })
}

/// Serves it to this installation's accounts.
pub(crate) fn service(store: Store, access: Access, settings: &BucketSettings) -> Serve {
    let domains = settings
        .domains
        .iter()
        .cloned()
        .chain([API_NAME.to_owned()]);
    let gate = Arc::new(BucketGate::new(access));
    Serve::new(store, gate, Hosts::new(domains))
}

fn backend(elsewhere: &Elsewhere) -> Result<bucket::Backend, BucketsError> {
    let path = &elsewhere.credentials;
    let read = || -> Result<Pair, Box<dyn std::error::Error>> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    };
    let pair = read().map_err(|why| BucketsError::Credentials {
        path: path.display().to_string(),
        why: why.to_string(),
    })?;
    let remote = Remote {
        endpoint: &elsewhere.endpoint,
        bucket: &elsewhere.bucket,
        region: &elsewhere.region,
        key_id: &pair.access_key_id,
        secret: &pair.secret_access_key,
    };
    remote.backend().map_err(BucketsError::Elsewhere)
}
