//! First half of a write: received bytes that are durable but not referenced yet.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use futures_util::{Stream, StreamExt};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::blobs::{BlobUpload, Blobs};
use super::record::Checksums;
use crate::error::StoreError;

/// Maximum size of an object stored inside the index, where one fsync serves it and the rest of the commit.
pub(super) const INLINE: usize = 16 * 1024;

/// An optional checksum, besides the MD5 and CRC-64 of every object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ChecksumKind {
    /// CRC-32.
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Received bytes. They are removed on drop unless a write commits them.
#[derive(Debug)]
pub struct Staged {
    /// Size in bytes.
    pub length: u64,
    /// MD5 digest.
    pub md5: [u8; 16],
    /// CRC-64/XZ, as in COS.
    pub crc64: u64,
    /// Requested checksums.
    pub sums: Checksums,
    pub(super) held: StagedBytes,
}

/// Location of staged bytes.
#[derive(Debug)]
pub(super) enum StagedBytes {
    Memory(Bytes),
    Blob(BlobUpload),
}

impl Staged {
    /// Returns the MD5 in the form of an ETag.
    pub fn etag(&self) -> String {
        hex::encode(self.md5)
    }

    /// Compares the MD5 with `Content-MD5`.
    ///
    /// # Errors
    /// They differ, or the header is not the base64 of 16 bytes.
    pub fn check_md5(&self, announced: &str) -> Result<(), StoreError> {
        let decoded = STANDARD
            .decode(announced.trim())
            .ok()
            .filter(|bytes| bytes.len() == 16);
        let decoded = decoded.ok_or_else(|| {
            StoreError::Invalid(format!(
                "Content-MD5 {announced:?} is not the base64 of 16 bytes"
            ))
        })?;
        if bool::from(decoded.ct_eq(&self.md5)) {
            Ok(())
        } else {
            Err(StoreError::BadDigest("Content-MD5"))
        }
    }

    /// Compares the checksums with those of the request.
    ///
    /// # Errors
    /// A checksum differs.
    pub fn check(&self, announced: &Checksums) -> Result<(), StoreError> {
        let pairs = [
            (&announced.crc32, &self.sums.crc32, "x-amz-checksum-crc32"),
            (
                &announced.crc32c,
                &self.sums.crc32c,
                "x-amz-checksum-crc32c",
            ),
            (
                &announced.crc64nvme,
                &self.sums.crc64nvme,
                "x-amz-checksum-crc64nvme",
            ),
            (&announced.sha1, &self.sums.sha1, "x-amz-checksum-sha1"),
            (
                &announced.sha256,
                &self.sums.sha256,
                "x-amz-checksum-sha256",
            ),
        ];
        for (announced, have, name) in pairs {
            if announced.is_some() && announced != have {
                return Err(StoreError::BadDigest(name));
            }
        }
        Ok(())
    }
}

/// Receives a body of at most `most` bytes.
pub(super) async fn stage<S, E>(
    blobs: &Arc<Blobs>,
    body: S,
    kinds: &[ChecksumKind],
    most: u64,
) -> Result<Staged, StoreError>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut sums = Sums::new(kinds);
    let mut length = 0u64;
    let mut small = BytesMut::new();
    let mut upload: Option<BlobUpload> = None;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|e| StoreError::Body(e.to_string()))?;
        length += bytes.len() as u64;
        if length > most {
            return Err(StoreError::TooLarge(most));
        }
        sums.update(&bytes);
        if let Some(upload) = &mut upload {
            upload.push(bytes).await?;
        } else if small.len() + bytes.len() <= INLINE {
            small.extend_from_slice(&bytes);
        } else {
            let mut begun = blobs.upload()?;
            if !small.is_empty() {
                begun.push(std::mem::take(&mut small).freeze()).await?;
            }
            begun.push(bytes).await?;
            upload = Some(begun);
        }
    }
    let held = match upload {
        Some(mut upload) => {
            upload.finish().await?;
            StagedBytes::Blob(upload)
        }
        None => {
            blobs.check_capacity(length)?;
            StagedBytes::Memory(small.freeze())
        }
    };
    let (md5, crc64, sums) = sums.finish();
    Ok(Staged {
        length,
        md5,
        crc64,
        sums,
        held,
    })
}

struct Sums {
    md5: Md5,
    crc64: Crc,
    crc32: Option<Crc>,
    crc32c: Option<Crc>,
    crc64nvme: Option<Crc>,
    sha1: Option<Sha1>,
    sha256: Option<Sha256>,
}

impl Sums {
    fn new(kinds: &[ChecksumKind]) -> Self {
        let crc = |kind, algorithm| kinds.contains(&kind).then(|| Crc::new(algorithm));
        Self {
            md5: Md5::new(),
            crc64: Crc::new(CrcAlgorithm::Crc64Xz),
            crc32: crc(ChecksumKind::Crc32, CrcAlgorithm::Crc32IsoHdlc),
            crc32c: crc(ChecksumKind::Crc32c, CrcAlgorithm::Crc32Iscsi),
            crc64nvme: crc(ChecksumKind::Crc64Nvme, CrcAlgorithm::Crc64Nvme),
            sha1: kinds.contains(&ChecksumKind::Sha1).then(Sha1::new),
            sha256: kinds.contains(&ChecksumKind::Sha256).then(Sha256::new),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc64.update(bytes);
        for crc in [&mut self.crc32, &mut self.crc32c, &mut self.crc64nvme]
            .into_iter()
            .flatten()
        {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(bytes);
        }
    }

    fn finish(self) -> ([u8; 16], u64, Checksums) {
        let four = |crc: Option<Crc>| {
            crc.map(|crc| STANDARD.encode((crc.finalize() as u32).to_be_bytes()))
        };
        let sums = Checksums {
            crc32: four(self.crc32),
            crc32c: four(self.crc32c),
            crc64nvme: self
                .crc64nvme
                .map(|crc| STANDARD.encode(crc.finalize().to_be_bytes())),
            sha1: self.sha1.map(|sha| STANDARD.encode(sha.finalize())),
            sha256: self.sha256.map(|sha| STANDARD.encode(sha.finalize())),
            composite: false,
        };
        (self.md5.finalize().into(), self.crc64.finalize(), sums)
    }
}
