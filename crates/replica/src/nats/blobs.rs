//! Blobs in JetStream's object store.

use std::fmt;

use async_nats::Client;
use async_nats::jetstream;
use async_nats::jetstream::object_store::{
    Config, DeleteErrorKind, GetErrorKind, InfoErrorKind, ObjectStore,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::io::AsyncReadExt;

use crate::blobs::{BlobError, Blobs};
use crate::nats::connection::TIMEOUT;

/// Blobs in a bucket of JetStream's object store. Clones are the same ones.
#[derive(Clone)]
pub struct NatsBlobs {
    bucket: ObjectStore,
}

impl fmt::Debug for NatsBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBlobs").finish_non_exhaustive()
    }
}

impl NatsBlobs {
    /// Opens a bucket, and makes it if it is not there.
    ///
    /// # Errors
    /// Fails if the servers cannot be reached, or refuse it.
    pub async fn open(
        client: Client,
        bucket: &str,
        replicas: usize,
        max_bytes: u64,
    ) -> Result<Self, BlobError> {
        let mut context = jetstream::new(client);
        context.set_timeout(TIMEOUT);
        if let Ok(bucket) = context.get_object_store(bucket).await {
            return Ok(Self { bucket });
        }
        let made = context.create_object_store(Config {
            bucket: bucket.to_owned(),
            num_replicas: replicas,
            max_bytes: i64::try_from(max_bytes).unwrap_or(i64::MAX),
            ..Config::default()
        });
        let bucket = made.await.map_err(unavailable)?;
        Ok(Self { bucket })
    }
}

#[async_trait]
impl Blobs for NatsBlobs {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let put = self.bucket.put(name, &mut bytes.as_ref()).await;
        put.map_err(unavailable)?;
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        let mut object = match self.bucket.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => {
                return Err(BlobError::Missing(name.to_owned()));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let mut bytes = Vec::with_capacity(object.info().size);
        object.read_to_end(&mut bytes).await.map_err(unavailable)?;
        Ok(bytes.into())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let listed = self.bucket.list().await.map_err(unavailable)?;
        let all: Vec<_> = listed.try_collect().await.map_err(unavailable)?;
        let names = all.into_iter().map(|object| object.name);
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<(), BlobError> {
        match self.bucket.info(name).await {
            Ok(_) => {}
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unavailable(error)),
        }
        match self.bucket.delete(name).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            Err(error) => Err(unavailable(error)),
        }
    }
}

fn unavailable(error: impl fmt::Display) -> BlobError {
    BlobError::Unavailable(error.to_string())
}
