//! Bytes of objects in an S3 elsewhere.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::error::StoreError;
use crate::store::Backend;

/// How long nothing may come of a request.
const STILL: Duration = Duration::from_secs(30);
/// How often one that failed is tried again: for some seconds in all, as somebody waits for it.
const RETRIES: usize = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Where it is, and how to get in.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// Its URL.
    pub endpoint: &'a str,
    /// The bucket there.
    pub bucket: &'a str,
    /// Its region.
    pub region: &'a str,
    /// The id of a key.
    pub key_id: &'a str,
    /// What it signs with.
    pub secret: &'a str,
}

impl Remote<'_> {
    /// A back end that keeps bytes there. It is not reached yet.
    ///
    /// # Errors
    /// Says what cannot be used.
    pub fn backend(&self) -> Result<Backend, StoreError> {
        // Its client takes the ciphers that the process has. Where there are some already, they do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = self.endpoint.starts_with("http://");
        // A large object may be read slowly; but something must come.
        let client = ClientOptions::new()
            .with_allow_http(plain)
            .with_timeout_disabled()
            .with_read_timeout(STILL);
        let retries = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: LONGEST_WAIT,
                ..BackoffConfig::default()
            },
            max_retries: RETRIES,
            ..RetryConfig::default()
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(self.endpoint)
            .with_bucket_name(self.bucket)
            .with_region(self.region)
            .with_access_key_id(self.key_id)
            .with_secret_access_key(self.secret)
            .with_client_options(client)
            .with_retry(retries)
            .build()?;
        Ok(Backend::Remote(Arc::new(store)))
    }
}

impl std::fmt::Debug for Remote<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}
