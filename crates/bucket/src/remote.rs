//! External storage: an S3-compatible server that holds the bytes of objects.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::error::StoreError;
use crate::store::Backend;

/// Maximum time without progress of a request.
const STILL: Duration = Duration::from_secs(30);
/// Maximum number of retries. They add up to a few seconds, because a client is waiting.
const RETRIES: usize = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Address and credentials of the external storage.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// URL of the server.
    pub endpoint: &'a str,
    /// Bucket name.
    pub bucket: &'a str,
    /// Region.
    pub region: &'a str,
    /// Access key id.
    pub key_id: &'a str,
    /// Secret access key.
    pub secret: &'a str,
}

impl Remote<'_> {
    /// Creates a backend. It does not connect yet.
    ///
    /// # Errors
    /// A setting is invalid.
    pub fn backend(&self) -> Result<Backend, StoreError> {
        // The HTTP client uses the process's crypto provider. If one is installed already, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = self.endpoint.starts_with("http://");
        // A large object may take long, so only the time without progress is limited.
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
