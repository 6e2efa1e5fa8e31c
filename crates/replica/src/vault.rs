//! Blobs that are encrypted if there are keys, and files in parts.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use seal::{SealError, Seals};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::blobs::{BlobError, Blobs};

/// Bytes of a file's part: a whole number of SQLite's pages, so that unchanged pages make equal parts.
const PART: usize = 256 * 1024;
/// The form of bytes that are not encrypted. Their digest is before them.
const PLAIN: u8 = 1;

/// A store of blobs, with the keys that encrypt them. Clones are the same one.
#[derive(Clone)]
pub struct Vault {
    blobs: Arc<dyn Blobs>,
    seals: Option<Arc<Seals>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault")
            .field("seals", &self.seals)
            .finish_non_exhaustive()
    }
}

/// A file that was stored in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its size (bytes).
    pub size: u64,
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the store.
    pub name: String,
    /// SHA-256 of its bytes.
    pub digest: String,
}

/// Why something cannot be stored or read.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The bytes cannot be encrypted or decrypted.
    #[error("{name} cannot be used: {error}")]
    Seal {
        /// The blob's name.
        name: String,
        /// Why.
        error: SealError,
    },
    /// The bytes are not those that were stored.
    #[error("{name} is damaged: {reason}")]
    Damaged {
        /// The blob's name.
        name: String,
        /// What differs.
        reason: String,
    },
    /// A local file failed.
    #[error("failed to use {path}: {error}")]
    File {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
}

impl Vault {
    /// Keeps bytes in `blobs`, encrypted if there are keys.
    pub fn new(blobs: Arc<dyn Blobs>, seals: Option<Arc<Seals>>) -> Self {
        Self { blobs, seals }
    }

    /// Stores bytes. They can be read under this name alone.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn put(&self, name: &str, plain: &[u8]) -> Result<(), VaultError> {
        let stored = match &self.seals {
            Some(seals) => seals.wrap(name.as_bytes(), plain),
            None => Ok([&[PLAIN], Sha256::digest(plain).as_slice(), plain].concat()),
        };
        let stored = stored.map_err(|error| seal_error(name, error))?;
        Ok(self.blobs.put(name, stored.into()).await?)
    }

    /// Returns the bytes under a name.
    ///
    /// # Errors
    /// Fails if the store does, or if the bytes are not from there.
    pub async fn get(&self, name: &str) -> Result<Vec<u8>, VaultError> {
        let stored: Bytes = self.blobs.get(name).await?;
        let opened = match (&self.seals, &*stored) {
            (Some(seals), stored) => seals.unwrap(name.as_bytes(), stored),
            (None, [PLAIN, rest @ ..]) => checked(rest),
            (None, _) => Err(SealError::Damaged),
        };
        opened.map_err(|error| seal_error(name, error))
    }

    /// Stores a value as JSON.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn put_json(&self, name: &str, value: &impl Serialize) -> Result<(), VaultError> {
        let bytes = serde_json::to_vec(value).map_err(|error| damaged(name, error))?;
        self.put(name, &bytes).await
    }

    /// Returns a value that was stored as JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get), or if it is not such a value.
    pub async fn get_json<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
    ) -> Result<T, VaultError> {
        let bytes = self.get(name).await?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(name, error))
    }

    /// Returns a name for bytes with a SHA-256. Equal bytes have equal names, and with keys the name reveals nothing of the bytes.
    pub fn name_of(&self, digest: &str) -> String {
        match &self.seals {
            Some(seals) => hex::encode(seals.digest(digest.as_bytes())),
            None => digest.to_owned(),
        }
    }

    /// Returns the names that begin with a prefix, in order.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, VaultError> {
        Ok(self.blobs.list(prefix).await?)
    }

    /// Deletes the bytes under a name.
    ///
    /// # Errors
    /// Fails if the store does.
    pub async fn delete(&self, name: &str) -> Result<(), VaultError> {
        Ok(self.blobs.delete(name).await?)
    }

    /// Stores a file in parts, each under the name that `name` gives to its index and digest. Parts of which `has` knows that they are
    /// stored are not stored again.
    ///
    /// # Errors
    /// Fails if the store or the file does.
    pub async fn put_file(
        &self,
        path: &Path,
        name: impl Fn(usize, &str) -> String,
        has: impl Fn(&str) -> bool,
    ) -> Result<StoredFile, VaultError> {
        let failed = |error| file_error(path, error);
        let mut file = File::open(path).await.map_err(failed)?;
        let mut stored = StoredFile {
            size: 0,
            parts: Vec::new(),
        };
        loop {
            let mut bytes = Vec::with_capacity(PART);
            let mut part = (&mut file).take(PART as u64);
            if part.read_to_end(&mut bytes).await.map_err(failed)? == 0 {
                return Ok(stored);
            }
            let digest = sha256(&bytes);
            let name = name(stored.parts.len(), &digest);
            if !has(&name) {
                self.put(&name, &bytes).await?;
            }
            stored.size += bytes.len() as u64;
            stored.parts.push(Part { name, digest });
        }
    }

    /// Reads a part.
    async fn part(&self, part: &Part) -> Result<Vec<u8>, VaultError> {
        let bytes = self.get(&part.name).await?;
        if sha256(&bytes) != part.digest {
            return Err(damaged(&part.name, "its digest differs"));
        }
        Ok(bytes)
    }

    /// Reads all parts of a file, without keeping them.
    ///
    /// # Errors
    /// Fails if one is not there or not as it was stored.
    pub async fn check_file(&self, stored: &StoredFile) -> Result<(), VaultError> {
        for part in &stored.parts {
            self.part(part).await?;
        }
        Ok(())
    }

    /// Writes a stored file to a path, synced.
    ///
    /// # Errors
    /// Fails if a part is not there or not as it was stored, or if the path cannot be written.
    pub async fn get_file(&self, stored: &StoredFile, path: &Path) -> Result<(), VaultError> {
        let failed = |error| file_error(path, error);
        let mut file = File::create(path).await.map_err(failed)?;
        for part in &stored.parts {
            let bytes = self.part(part).await?;
            file.write_all(&bytes).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)
    }
}

/// Returns the bytes behind their digest.
fn checked(stored: &[u8]) -> Result<Vec<u8>, SealError> {
    let split = stored.split_at_checked(Sha256::output_size());
    let (digest, plain) = split.ok_or(SealError::Damaged)?;
    if Sha256::digest(plain).as_slice() != digest {
        return Err(SealError::Damaged);
    }
    Ok(plain.to_vec())
}

fn seal_error(name: &str, error: SealError) -> VaultError {
    VaultError::Seal {
        name: name.to_owned(),
        error,
    }
}

fn damaged(name: &str, reason: impl std::fmt::Display) -> VaultError {
    VaultError::Damaged {
        name: name.to_owned(),
        reason: reason.to_string(),
    }
}

pub(crate) fn file_error(path: &Path, error: std::io::Error) -> VaultError {
    VaultError::File {
        path: path.display().to_string(),
        error,
    }
}

/// Returns a SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
