//! Packages with the code of functions and layers.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use model::{Field, Sha256};
use tokio::task::spawn_blocking;
use worker::PackageError;

use crate::{Control, Error, Limit, Reason};

/// A stored package.
#[derive(Clone, Debug)]
pub struct StoredPackage {
    /// Digest of its bytes.
    pub package: Sha256,
    /// Size of the archive (bytes).
    pub size: u64,
}

impl Control {
    /// Stores and unpacks a package that a request contains.
    ///
    /// # Errors
    /// It is too large for a request or no valid archive, or the disk fails.
    pub async fn store_package(&self, bytes: Vec<u8>) -> Result<StoredPackage, Error> {
        let limit = self.limits.package_bytes;
        let size = bytes.len() as u64;
        if size > limit {
            let message =
                format!("the package has {size} bytes; up to {limit} are allowed in a request");
            let reason = Reason::LimitReached(Limit::PackageBytes);
            return Err(Error::of(Field::Package, reason, message));
        }
        let packages = self.packages.clone();
        let package = blocking(move || packages.put(&bytes)).await?;
        self.unpack_package(StoredPackage { package, size }).await
    }

    /// Stores a package that arrives in pieces, such as an object in a bucket. The caller limits its size.
    ///
    /// # Errors
    /// A piece is an error, or the disk fails.
    pub async fn receive_package<E: From<Error>>(
        &self,
        mut pieces: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<StoredPackage, E> {
        let packages = self.packages.clone();
        let mut incoming = blocking(move || packages.receive()).await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let written = blocking(move || incoming.write(&piece).map(|()| incoming));
            incoming = written.await?;
        }
        let size = incoming.size();
        let package = blocking(move || incoming.keep()).await?;
        Ok(StoredPackage { package, size })
    }

    /// Unpacks a stored package.
    ///
    /// # Errors
    /// It is no valid archive, or the disk fails.
    pub async fn unpack_package(&self, stored: StoredPackage) -> Result<StoredPackage, Error> {
        let packages = self.packages.clone();
        blocking(move || packages.unpack(&stored.package).map(|_| stored)).await
    }
}

/// Runs work on the disk in a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PackageError> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(Error::package),
        Err(e) => Err(Error::new(Reason::Internal, e.to_string())),
    }
}
