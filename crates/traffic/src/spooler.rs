//! Spools bodies to disk, a few at a time.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::AccountId;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::fair_semaphore::FairSemaphore;
use super::throttle::Throttle;

/// Bodies of verified callers that are spooled at a time; of unverified callers, one is.
const SPOOL_SLOTS: u64 = 4;
/// Bytes per second of unverified callers' bodies that are drained or spooled.
const UNVERIFIED_BYTES_PER_SECOND: u64 = 32 << 20;

/// The directory of spooled bodies, and the slots to write them.
#[derive(Debug)]
pub(super) struct Spooler {
    directory: PathBuf,
    /// Slots to hash and write a body: of verified callers, and of unverified ones.
    slots: FairSemaphore<AccountId>,
    unverified: Semaphore,
    /// The rate of unverified callers' bodies.
    pub(super) throttle: Throttle,
}

/// A partly written body.
pub(super) struct SpoolWriter {
    pub(super) file: Option<File>,
    pub(super) hash: Sha256,
}

impl Spooler {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            slots: FairSemaphore::new(SPOOL_SLOTS),
            unverified: Semaphore::new(1),
            throttle: Throttle::new(UNVERIFIED_BYTES_PER_SECOND),
        }
    }

    /// Hashes and writes a chunk in a slot of its caller.
    pub(super) async fn write(
        &self,
        mut writing: SpoolWriter,
        chunk: Bytes,
        account: Option<AccountId>,
    ) -> io::Result<SpoolWriter> {
        let (mut permit, mut turn) = (None, None);
        match account {
            Some(account) => permit = Some(self.slots.acquire(account, 1).await),
            None => turn = Some(self.unverified.acquire().await.map_err(io::Error::other)?),
        }
        let directory = self.directory.clone();
        let write = move || -> io::Result<SpoolWriter> {
            let file = match &mut writing.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile_in(directory)?),
            };
            writing.hash.update(&chunk);
            file.write_all(&chunk)?;
            Ok(writing)
        };
        let written = tokio::task::spawn_blocking(write).await;
        drop((permit, turn));
        written.map_err(io::Error::other)?
    }
}
