//! The consumed nonces, which make a request of the operator's API valid once, also across a restart.
//!
//! A nonce is forgotten when the request's timestamp has left the signature window, since the request is too old then.
//! The number of nonces per key is bounded. A small file holds them. It is fsynced before a request is served or
//! answered; one fsync serves all waiting requests (group commit).

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tracing::warn;

/// Largest number of nonces of one key within the window.
const PER_KEY_MAX: usize = 4096;
/// Lines of the file before it is compacted.
const LINES_MAX: usize = 65_536;

/// The consumed nonces of all keys.
#[derive(Debug)]
pub struct Nonces {
    state: Mutex<State>,
    /// The number of lines known to be on stable storage, and the turn to fsync.
    synced: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: Arc<File>,
    lines: usize,
    /// Lines written so far.
    written: u64,
    keys: HashMap<String, HashMap<u128, i64>>,
}

/// The reason why a nonce is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceRefused {
    Used,
    /// The key has reached the maximum number of nonces.
    Many,
}

impl Nonces {
    /// Loads the nonces of a file and compacts it. `now` is Unix time in seconds.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, now: i64) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut keys: HashMap<String, HashMap<u128, i64>> = HashMap::new();
        // The last line may be torn.
        for (until, key, nonce) in text.lines().filter_map(parse) {
            if until >= now {
                keys.entry(key).or_default().insert(nonce, until);
            }
        }
        let (file, lines) = rewrite(path, &keys)?;
        let state = State {
            path: path.to_owned(),
            file: Arc::new(file),
            lines,
            written: 0,
            keys,
        };
        Ok(Self {
            state: Mutex::new(state),
            synced: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Waits until all nonces consumed so far are on stable storage.
    pub(super) async fn sync(&self) {
        let is_synced = |written| self.synced.load(Ordering::Acquire) >= written;
        if is_synced(self.state().written) {
            return;
        }
        let _turn = self.turn.lock().await;
        let (file, written) = {
            let state = self.state();
            (state.file.clone(), state.written)
        };
        // Another waiter may have synced meanwhile.
        if is_synced(written) {
            return;
        }
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        match synced.map_err(io::Error::other).and_then(|synced| synced) {
            Ok(()) => self.synced.store(written, Ordering::Release),
            Err(error) => {
                warn!(%error, "failed to fsync the used nonces; after a loss of power within the signature window, requests can be replayed");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Consumes a nonce of a key; it is remembered until the given time.
    ///
    /// # Errors
    /// [`NonceRefused`].
    pub(super) fn take(
        &self,
        key: &str,
        nonce: &str,
        until: i64,
        now: i64,
    ) -> Result<(), NonceRefused> {
        let mut state = self.state();
        let nonce = nonce_digest(nonce);
        if !state.keys.contains_key(key) {
            state.forget(now);
        }
        let used = state.keys.entry(key.to_owned()).or_default();
        if used.contains_key(&nonce) {
            return Err(NonceRefused::Used);
        }
        if used.len() >= PER_KEY_MAX {
            used.retain(|_, until| *until >= now);
        }
        if used.len() >= PER_KEY_MAX {
            return Err(NonceRefused::Many);
        }
        used.insert(nonce, until);
        if let Err(error) = state.record(until, key, nonce, now) {
            // The operator must be able to act even when the disk is full.
            warn!(%error, "failed to store a used nonce; after a restart within the signature window, its request can be replayed");
        }
        Ok(())
    }
}

impl State {
    fn record(&mut self, until: i64, key: &str, nonce: u128, now: i64) -> io::Result<()> {
        if self.lines >= LINES_MAX {
            self.forget(now);
            let (file, lines) = rewrite(&self.path, &self.keys)?;
            (self.file, self.lines) = (Arc::new(file), lines);
        } else {
            self.lines += 1;
            let mut file = &*self.file;
            file.write_all(line(until, key, nonce).as_bytes())?;
        }
        self.written += 1;
        Ok(())
    }

    fn forget(&mut self, now: i64) {
        self.keys.retain(|_, used| {
            used.retain(|_, until| *until >= now);
            !used.is_empty()
        });
    }
}

fn rewrite(path: &Path, keys: &HashMap<String, HashMap<u128, i64>>) -> io::Result<(File, usize)> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let mut text = String::new();
    let mut lines = 0;
    for (key, used) in keys {
        for (nonce, until) in used {
            text.push_str(&line(*until, key, *nonce));
            lines += 1;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok((file, lines))
}

fn line(until: i64, key: &str, nonce: u128) -> String {
    format!("{until} {key} {nonce:032x}\n")
}

fn parse(line: &str) -> Option<(i64, String, u128)> {
    let mut words = line.split(' ');
    let (until, key, nonce) = (words.next()?, words.next()?, words.next()?);
    let whole = nonce.len() == 32 && words.next().is_none();
    let nonce = u128::from_str_radix(nonce, 16).ok().filter(|_| whole)?;
    Some((until.parse().ok()?, key.to_owned(), nonce))
}

/// Returns the first 16 bytes of a nonce's digest.
fn nonce_digest(nonce: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(nonce).into();
    digest
        .iter()
        .take(16)
        .fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_is_single_use_per_key_until_it_expires() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("nonces");
        let nonces = Nonces::open(&path, 0).expect("opened");
        assert_eq!(nonces.take("a", "one", 10, 0), Ok(()));
        assert_eq!(nonces.take("a", "one", 10, 5), Err(NonceRefused::Used));
        assert_eq!(nonces.take("b", "one", 10, 5), Ok(()));
        // A new process knows them, also after a torn line.
        fs::write(
            &path,
            fs::read_to_string(&path).expect("text") + "99 c 0123",
        )
        .expect("written");
        let nonces = Nonces::open(&path, 9).expect("opened");
        assert_eq!(nonces.take("a", "one", 10, 9), Err(NonceRefused::Used));
        assert_eq!(nonces.take("a", "two", 20, 9), Ok(()));
        let nonces = Nonces::open(&path, 11).expect("opened");
        assert_eq!(nonces.take("a", "one", 30, 11), Ok(()));
        assert_eq!(nonces.take("a", "two", 30, 11), Err(NonceRefused::Used));
    }

    #[tokio::test]
    async fn nonces_are_fsynced_before_the_request_is_served() {
        let directory = tempfile::tempdir().expect("a directory");
        let nonces = Nonces::open(&directory.path().join("nonces"), 0).expect("opened");
        let synced = || nonces.synced.load(Ordering::Acquire);
        nonces.sync().await;
        assert_eq!(synced(), 0);
        for number in 1..4u64 {
            assert_eq!(nonces.take("a", &number.to_string(), 10, 0), Ok(()));
            assert!(synced() < number);
            nonces.sync().await;
            assert_eq!(synced(), number);
        }
        // One fsync serves all waiters.
        (4..9u8).for_each(|number| nonces.take("a", &number.to_string(), 10, 0).expect("taken"));
        tokio::join!(nonces.sync(), nonces.sync(), nonces.sync());
        assert_eq!(synced(), 8);
    }

    #[test]
    fn nonces_per_key_are_bounded_and_expire() {
        let directory = tempfile::tempdir().expect("a directory");
        let nonces = Nonces::open(&directory.path().join("nonces"), 0).expect("opened");
        for number in 0..PER_KEY_MAX {
            assert_eq!(nonces.take("a", &number.to_string(), 10, 0), Ok(()));
        }
        assert_eq!(nonces.take("a", "more", 10, 10), Err(NonceRefused::Many));
        assert_eq!(nonces.take("b", "more", 10, 10), Ok(()));
        assert_eq!(nonces.take("a", "more", 20, 11), Ok(()));
        nonces.take("c", "one", 20, 12).expect("taken");
        let state = nonces.state.lock().expect("a lock");
        assert_eq!(
            state.keys.len(),
            2,
            "b's are forgotten when another key comes"
        );
    }
}
