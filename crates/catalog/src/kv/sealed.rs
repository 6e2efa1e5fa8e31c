//! Encryption at rest. Without the master key, the stored bytes reveal only the keys of entries and the sizes of values.
//!
//! The entry's key is authenticated, so that a value cannot be moved to another key. An encrypted value is a record of
//! format 2 and names its master key. Plaintext values of older versions are readable. Opening the store re-encrypts
//! plaintext values, and values under an older master key, with the current one (key rotation).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seal::SealError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::error;

use super::{Kv, KvEntry, KvError, KvFuture, Precondition, Revision, Watch};
use crate::MasterKeys;

/// Format version of an encrypted record.
pub(crate) const VERSION: u32 = 2;

/// An encrypting layer over another store.
#[derive(Clone)]
pub struct SealedKv {
    inner: Arc<dyn Kv>,
    seals: Arc<Seals>,
}

impl std::fmt::Debug for SealedKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedKv").finish_non_exhaustive()
    }
}

impl SealedKv {
    /// Opens a store and re-encrypts all values that are not encrypted with the current key.
    ///
    /// # Errors
    /// [`KvError::Locked`] if a value is encrypted with another key than these, or an error of the store.
    pub async fn open(inner: Arc<dyn Kv>, keys: &MasterKeys) -> Result<Self, KvError> {
        let sealed = Self {
            inner,
            seals: Arc::new(Seals(keys.seals("seal"))),
        };
        for entry in sealed.inner.list("").await? {
            if sealed_with(&entry.value).is_some_and(|id| id == sealed.seals.0.first()) {
                continue;
            }
            let plain = sealed.seals.open(&entry.key, &entry.value)?;
            let on = Precondition::Revision(entry.revision);
            match sealed.put(&entry.key, plain, on).await {
                // A conflict means that the value was rewritten concurrently, with the current key.
                Ok(_) | Err(KvError::Conflict { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(sealed)
    }

    /// Returns the id of the master key of the first encrypted value, if there is one.
    ///
    /// # Errors
    /// An error of the store.
    pub async fn key_of(store: &dyn Kv) -> Result<Option<String>, KvError> {
        let entries = store.list("").await?;
        Ok(entries.iter().find_map(|entry| sealed_with(&entry.value)))
    }
}

impl Kv for SealedKv {
    fn get<'a>(&'a self, key: &'a str) -> KvFuture<'a, Option<KvEntry>> {
        Box::pin(async move {
            let found = self.inner.get(key).await?;
            found.map(|entry| self.seals.open_entry(entry)).transpose()
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> KvFuture<'a, Revision> {
        Box::pin(async move {
            let sealed = self.seals.seal(key, &value)?;
            self.inner.put(key, sealed, on).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> KvFuture<'a, Revision> {
        self.inner.delete(key, on)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> KvFuture<'a, Vec<KvEntry>> {
        Box::pin(async move {
            let found = self.inner.list(prefix).await?.into_iter();
            found.map(|entry| self.seals.open_entry(entry)).collect()
        })
    }

    fn watch(&self) -> KvFuture<'_, Watch> {
        Box::pin(async move {
            let Watch {
                snapshot,
                revision,
                mut events,
            } = self.inner.watch().await?;
            let opened = snapshot
                .into_iter()
                .map(|entry| self.seals.open_entry(entry));
            let snapshot = opened.collect::<Result<_, _>>()?;
            let (sender, receiver) = mpsc::unbounded_channel();
            let seals = self.seals.clone();
            tokio::spawn(async move {
                while let Some(mut event) = events.recv().await {
                    if let Some(value) = &mut event.value {
                        match seals.open(&event.key, value) {
                            Ok(plain) => *value = plain,
                            // The catalog then fails to decode the change, logs that, and continues.
                            Err(error) => {
                                error!(%error, "failed to decrypt a change of the catalog store")
                            }
                        }
                    }
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            });
            Ok(Watch {
                snapshot,
                revision,
                events: receiver,
            })
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    record: T,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    /// The id of the master key.
    key: String,
    /// Nonce and ciphertext (base64).
    data: String,
}

/// Parses the envelope of an encrypted value; returns `None` for plaintext.
fn envelope(value: &[u8]) -> Option<Sealed> {
    let read: Envelope<&RawValue> = serde_json::from_slice(value).ok()?;
    (read.v == VERSION)
        .then(|| serde_json::from_str(read.record.get()).ok())
        .flatten()
}

fn sealed_with(value: &[u8]) -> Option<String> {
    envelope(value).map(|sealed| sealed.key)
}

/// The ciphers of all master keys.
struct Seals(seal::Seals);

impl Seals {
    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, KvError> {
        let failed = |why: &str| KvError::Unavailable(format!("failed to encrypt {name}: {why}"));
        let sealed = self.0.seal(name.as_bytes(), plain);
        let sealed = sealed.map_err(|e| failed(&e.to_string()))?;
        let envelope = Envelope {
            v: VERSION,
            record: Sealed {
                key: self.0.first().to_owned(),
                data: STANDARD.encode(sealed),
            },
        };
        serde_json::to_vec(&envelope).map_err(|e| failed(&e.to_string()))
    }

    /// Decrypts a value. Returns a plaintext value unchanged.
    fn open(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, KvError> {
        let Some(Sealed { key: id, data }) = envelope(value) else {
            return Ok(value.to_vec());
        };
        let damaged = || KvError::Damaged {
            key: name.to_owned(),
        };
        let data = STANDARD.decode(data).map_err(|_| damaged())?;
        let opened = self.0.open(&id, name.as_bytes(), &data);
        opened.map_err(|e| match e {
            SealError::NoKey { id } => KvError::Locked { id },
            _ => damaged(),
        })
    }

    fn open_entry(&self, mut entry: KvEntry) -> Result<KvEntry, KvError> {
        entry.value = self.open(&entry.key, &entry.value)?;
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterKey;
    use crate::kv::MemoryKv;

    fn keys(bytes: &[u8]) -> MasterKeys {
        let mut keys = bytes.iter().map(|byte| MasterKey::new([*byte; 32]));
        MasterKeys {
            first: keys.next().expect("a key"),
            older: keys.collect(),
        }
    }

    async fn open(store: &Arc<MemoryKv>, bytes: &[u8]) -> Result<SealedKv, KvError> {
        SealedKv::open(store.clone(), &keys(bytes)).await
    }

    #[tokio::test]
    async fn opening_encrypts_plaintext_and_rotates_older_keys() {
        const PLAIN: &[u8] = br#"{"v":1,"record":"hush"}"#;
        let store = Arc::new(MemoryKv::default());
        let put = store.put("a/1", PLAIN.to_vec(), Precondition::Absent);
        put.await.expect("written");
        assert_eq!(SealedKv::key_of(&*store).await.expect("read"), None);
        let mut before = PLAIN.to_vec();
        for bytes in [&[1][..], &[2, 1], &[2]] {
            let sealed = open(&store, bytes).await.expect("opened");
            let seen = sealed.get("a/1").await.expect("read").expect("there");
            assert_eq!(seen.value, PLAIN);
            let stored = store.get("a/1").await.expect("read").expect("there").value;
            assert!(!String::from_utf8_lossy(&stored).contains("hush"));
            let key = SealedKv::key_of(&*store).await.expect("read");
            assert_eq!(key, Some(keys(bytes).first.id().to_owned()));
            if bytes == [2] {
                assert_eq!(
                    stored, before,
                    "a value under the current key is not rewritten"
                );
            }
            before = stored;
        }
        let wrong = open(&store, &[1]).await.expect_err("the key is not there");
        assert!(matches!(wrong, KvError::Locked { id } if id == keys(&[2]).first.id()));
    }

    #[tokio::test]
    async fn moved_or_modified_value_fails_authentication() {
        let store = Arc::new(MemoryKv::default());
        let sealed = open(&store, &[1]).await.expect("opened");
        let put = sealed.put("a/1", b"x".to_vec(), Precondition::Absent);
        put.await.expect("written");
        let value = store.get("a/1").await.expect("read").expect("there").value;
        let moved = store.put("a/2", value.clone(), Precondition::Absent);
        moved.await.expect("written");
        let refused = sealed.get("a/2").await.expect_err("moved");
        assert!(matches!(refused, KvError::Damaged { key } if key == "a/2"));
        // The last characters of the base64 belong to the authentication tag.
        let text = String::from_utf8(value).expect("text");
        let at = text.rfind('"').expect("its end") - 6;
        let mut changed = text.into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let put = store.put("a/1", changed, Precondition::Any);
        put.await.expect("written");
        assert!(sealed.get("a/1").await.is_err());
    }
}
