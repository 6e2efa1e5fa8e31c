//! Bytes of objects in an S3 elsewhere.

use std::sync::Arc;

use object_store::ClientOptions;
use object_store::aws::AmazonS3Builder;

use crate::error::StoreError;
use crate::store::Backend;

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
        let plain = self.endpoint.starts_with("http://");
        let store = AmazonS3Builder::new()
            .with_endpoint(self.endpoint)
            .with_bucket_name(self.bucket)
            .with_region(self.region)
            .with_access_key_id(self.key_id)
            .with_secret_access_key(self.secret)
            .with_client_options(ClientOptions::new().with_allow_http(plain))
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
