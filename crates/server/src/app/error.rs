//! The reasons why virga does not start.

use std::io;
use std::net::SocketAddr;

use access::master::MasterError;
use catalog::kv::KvError;
use events::QueueError;
use gateway_cos::BucketsError;
use operator::credentials::CredentialsError;
use telemetry::LogStoreError;
use thiserror::Error;
use tls::TlsError;

use crate::claims::ClaimError;
use crate::cloud::CloudError;

/// A reason why virga does not start. Each message says how to fix it.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("data directory {path}: {source}; choose a writable one with --data")]
    Data { path: String, source: io::Error },
    #[error(
        "another virga uses the data directory {0}; stop it, or choose another directory with --data"
    )]
    InUse(String),
    #[error("this host cannot isolate functions:\n{0}\nrun virga doctor for all requirements")]
    Host(String),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Account(#[from] model::Invalid),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Worker(#[from] worker::Error),
    #[error(transparent)]
    Packages(#[from] worker::PackageError),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error(transparent)]
    Store(#[from] KvError),
    #[error(transparent)]
    Logs(#[from] LogStoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error("cannot listen on {address}: {source}; choose another address with --{option}")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Buckets(#[from] BucketsError),
    #[error(transparent)]
    Triggers(#[from] triggers::StartError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error("{step}: {source}")]
    Io {
        step: &'static str,
        source: io::Error,
    },
}

impl StartError {
    /// Returns the error of a step.
    pub(super) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { step, source }
    }
}
