//! Disk space reserved for removals.
//!
//! A removal frees space, but first needs some to update the index. A reserve file holds that space and is deleted
//! when the disk is full. Until it can be created again, only removals are written.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;

/// Corresponds to about a thousand pages of the index.
const BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
    held: AtomicBool,
}

impl DiskReserve {
    /// Opens the reserve beside the index, and acquires it if the disk has space.
    pub(super) fn open_beside(index: PathBuf) -> Self {
        let path = index.with_extension("reserve");
        let held = fs::metadata(&path).is_ok_and(|file| file.len() == BYTES as u64);
        let reserve = Self {
            path,
            held: AtomicBool::new(held),
        };
        reserve.acquire();
        reserve
    }

    /// Checks that the reserve is held, so that any write is allowed.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.held.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(StoreError::NoSpace)
    }

    /// Acquires the reserve again if the disk has space.
    pub(super) fn acquire(&self) {
        if self.check().is_ok() {
            return;
        }
        // A file system with compression would reserve no space for zeros.
        let mut bytes = vec![0; BYTES];
        let taken = getrandom::fill(&mut bytes).is_ok() && fs::write(&self.path, &bytes).is_ok();
        if taken {
            self.held.store(true, Ordering::Relaxed);
        } else {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Frees the reserve for removals.
    pub(super) fn release(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
