//! Where large immutable bytes are kept: a directory, an S3, or JetStream's object store.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use thiserror::Error;

/// A store of named bytes. Each is at most some megabytes, and written once.
#[async_trait]
pub trait Blobs: Send + Sync + 'static {
    /// Stores bytes durably under a name. Replaces earlier ones.
    ///
    /// # Errors
    /// Fails if the store cannot be reached or is full.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError>;

    /// Returns the bytes under a name.
    ///
    /// # Errors
    /// [`BlobError::Missing`] if there are none.
    async fn get(&self, name: &str) -> Result<Bytes, BlobError>;

    /// Returns the names that begin with a prefix, which ends with `/`, in order.
    ///
    /// # Errors
    /// Fails if the store cannot be reached.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError>;

    /// Deletes the bytes under a name, if there are any.
    ///
    /// # Errors
    /// Fails if the store cannot be reached.
    async fn delete(&self, name: &str) -> Result<(), BlobError>;
}

/// Why bytes cannot be stored or read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BlobError {
    /// There are none under the name.
    #[error("{0} is not there")]
    Missing(String),
    /// The store failed; trying again may help.
    #[error("the store of blobs failed: {0}")]
    Unavailable(String),
}

/// Blobs in an object store.
#[derive(Clone, Debug)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
}

impl ObjectBlobs {
    /// Keeps blobs in an object store, whose writes have to be durable.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Keeps blobs as files of a directory, which is made if it is not there. Each is synced.
    ///
    /// # Errors
    /// Fails if the directory cannot be made.
    pub fn directory(path: &Path) -> Result<Self, BlobError> {
        let failed = |error: &dyn std::fmt::Display| {
            BlobError::Unavailable(format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(path).map_err(|error| failed(&error))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|error| failed(&error))?;
        Ok(Self::new(Arc::new(store.with_fsync(true))))
    }
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BlobError> {
        let name = ObjectPath::from(name);
        let put = self.store.put(&name, bytes.into()).await;
        put.map_err(failed)?;
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobError> {
        let got = self.store.get(&ObjectPath::from(name)).await;
        got.map_err(failed)?.bytes().await.map_err(failed)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobError> {
        let prefix = ObjectPath::from(prefix);
        let listed = self.store.list(Some(&prefix));
        let names = listed.map_ok(|object| object.location.to_string());
        let mut names: Vec<_> = names.try_collect().await.map_err(failed)?;
        names.sort();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<(), BlobError> {
        match self.store.delete(&ObjectPath::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

fn failed(error: object_store::Error) -> BlobError {
    match error {
        object_store::Error::NotFound { path, .. } => BlobError::Missing(path),
        other => BlobError::Unavailable(other.to_string()),
    }
}
