//! Overlays of code and layers, one for each account that runs them.
//!
//! A tree of files serves the instances of every account that brought the same bytes. Each account has an overlay of its own over
//! it, so that neither locks nor watches reach another account. Making one, and finding its files for the first time, takes a
//! start 0.2 ms, so an overlay is kept for a while and each instance is given a copy of its mount.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::AccountId;

/// Most overlays that are kept; each takes a descriptor, and the kernel's memory for the files that were looked up.
const CACHED_MAX: usize = 512;
/// How long one is kept after its last use. It also keeps the disk from reusing the space of a tree that was removed.
const CACHED_FOR: Duration = Duration::from_secs(60);

type Key = (AccountId, PathBuf);

/// The overlays in use lately.
#[derive(Debug, Default)]
pub(crate) struct PrivateTrees {
    cached: Mutex<HashMap<Key, CachedOverlay>>,
}

#[derive(Debug)]
struct CachedOverlay {
    overlay: Arc<OwnedFd>,
    /// Device and number of the directory below. As long as the overlay is there, no other directory gets the number.
    identity: (u64, u64),
    used: Instant,
}

impl PrivateTrees {
    /// Returns a detached mount of the account's overlay over a directory. `empty` is an empty directory of the host. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// The system's error, as where there are no overlays.
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
        // Linux before 6.15 does not copy a mount that is nowhere attached.
        let Ok(copy) = sandbox::copy_mount(&overlay) else {
            return Ok(overlay);
        };
        self.cache(key, overlay, identity);
        Ok(copy)
    }

    /// Lets go of the overlays of an account.
    pub(crate) fn forget(&self, account: AccountId) {
        self.lock().retain(|(owner, _), _| *owner != account);
    }

    fn find(&self, key: &Key, identity: (u64, u64)) -> Option<Arc<OwnedFd>> {
        let mut cached = self.lock();
        let one = cached.get_mut(key)?;
        // Removed and made anew since, under the same name.
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

/// Evicts overlays that were not used for a while, until there is none.
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
