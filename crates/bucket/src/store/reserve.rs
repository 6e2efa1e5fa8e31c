//! Room on the disk for removing.
//!
//! Removing makes room, and takes some first, since the index must say so. So a file holds some of the disk, and is removed when
//! it is full; until it can be had again nothing is written but what removes.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::StoreError;

/// As much as a thousand pages of the index.
const BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
    held: AtomicBool,
}

impl DiskReserve {
    /// Room beside the index, where there is some.
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

    /// Whether more may be written than what removes.
    ///
    /// # Errors
    /// The disk is full.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.held.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(StoreError::NoSpace)
    }

    /// Takes it, where it was given up and there is room.
    pub(super) fn acquire(&self) {
        if self.check().is_ok() {
            return;
        }
        // Disks that compress would give no room for zeros.
        let mut bytes = vec![0; BYTES];
        let taken = getrandom::fill(&mut bytes).is_ok() && fs::write(&self.path, &bytes).is_ok();
        if taken {
            self.held.store(true, Ordering::Relaxed);
        } else {
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives it to what removes.
    pub(super) fn release(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
