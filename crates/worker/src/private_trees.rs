//! Overlay mounts of code and layers, one per account.
//!
//! Instances of several accounts that uploaded the same bytes share a tree. Each account has an overlay of its own over
//! it, so that file locks and inotify watches do not reach other accounts. Making an overlay and looking up its files
//! for the first time adds 0.2 ms to a start. So overlays are cached, and each instance gets a copy of the mount.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::AccountId;

/// Most cached overlays. Each takes a descriptor and kernel memory for the files that were looked up.
const CACHED_MAX: usize = 512;
/// How long an overlay stays cached after its last use. It also keeps the disk from reusing the space of a removed tree.
const CACHED_FOR: Duration = Duration::from_secs(60);

type Key = (AccountId, PathBuf);

/// A cache of overlays.
#[derive(Debug, Default)]
pub(crate) struct PrivateTrees {
    cached: Mutex<HashMap<Key, CachedOverlay>>,
}

#[derive(Debug)]
struct CachedOverlay {
    overlay: Arc<OwnedFd>,
    /// Device and inode of the directory below. The overlay holds it open, so the inode is not reused.
    identity: (u64, u64),
    used: Instant,
}

impl PrivateTrees {
    /// Returns a detached mount of the account's overlay over `directory`. `empty` is an empty directory of the host.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system's error, for example if the kernel has no overlayfs.
    pub(crate) fn mount(
        self: &Arc<Self>,
        account: AccountId,
        directory: &Path,
        empty: &Path,
    ) -> io::Result<OwnedFd> {
        let found = fs::metadata(directory)?;
        let identity = (found.dev(), found.ino());
        let key = (account, directory.to_owned());
        if let Some(overlay) = self.find(&key, identity) {
            return sandbox::copy_mount(&overlay);
        }
        let overlay = sandbox::private_tree(directory, empty)?;
        // Linux before 6.15 cannot copy a detached mount.
        let Ok(copy) = sandbox::copy_mount(&overlay) else {
            return Ok(overlay);
        };
        self.cache(key, overlay, identity);
        Ok(copy)
    }

    /// Evicts the overlays of an account.
    pub(crate) fn forget(&self, account: AccountId) {
        self.lock().retain(|(owner, _), _| *owner != account);
    }

    /// Evicts the overlays over a directory in which files were added. An overlay remembers names that it did not find,
    /// so instances that share it would never see the new files.
    pub(crate) fn renew(&self, directory: &Path) {
        self.lock().retain(|(_, below), _| below != directory);
    }

    fn find(&self, key: &Key, identity: (u64, u64)) -> Option<Arc<OwnedFd>> {
        let mut cached = self.lock();
        let one = cached.get_mut(key)?;
        // The directory was removed and recreated under the same name.
        if one.identity != identity {
            return None;
        }
        one.used = Instant::now();
        Some(one.overlay.clone())
    }

    fn cache(self: &Arc<Self>, key: Key, overlay: OwnedFd, identity: (u64, u64)) {
        let mut cached = self.lock();
        if cached.is_empty() {
            tokio::spawn(expire(Arc::downgrade(self)));
        }
        if cached.len() >= CACHED_MAX {
            let oldest = cached.iter().min_by_key(|(_, one)| one.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                cached.remove(&oldest);
            }
        }
        let overlay = Arc::new(overlay);
        let used = Instant::now();
        cached.insert(
            key,
            CachedOverlay {
                overlay,
                identity,
                used,
            },
        );
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, CachedOverlay>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts overlays that were not used for a while, until none is left.
async fn expire(trees: Weak<PrivateTrees>) {
    loop {
        tokio::time::sleep(CACHED_FOR / 2).await;
        let Some(trees) = trees.upgrade() else {
            return;
        };
        let mut cached = trees.lock();
        cached.retain(|_, one| one.used.elapsed() < CACHED_FOR);
        if cached.is_empty() {
            return;
        }
    }
}
