//! A store whose values are sealed: who reads its bytes without the master key learns their names and sizes alone.
//!
//! XChaCha20-Poly1305, with a random nonce that is long enough never to come twice, over each value and the name that it
//! stands under: a value cannot be moved to another name. A sealed value is a record of version 2, which says the id of
//! its key; what was written before there were keys is read as it is, and both are sealed anew, with the newest key, when
//! the store is opened.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::error;

use super::{Entry, Kv, KvError, Later, Precondition, Revision, Watch};
use crate::MasterKeys;

/// The version of a sealed record.
pub(crate) const VERSION: u32 = 2;
const NONCE: usize = 24;

/// A store over another, which sees sealed values alone.
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
    /// Opens a store, and seals with the newest key whatever is not.
    ///
    /// # Errors
    /// [`KvError::Locked`] when a value is sealed with a key that is not among these; or the store's.
    pub async fn open(inner: Arc<dyn Kv>, keys: &MasterKeys) -> Result<Self, KvError> {
        let sealed = Self {
            inner,
            seals: Arc::new(Seals::new(keys)),
        };
        for entry in sealed.inner.list("").await? {
            if sealed_with(&entry.value).is_some_and(|id| id == sealed.seals.first) {
                continue;
            }
            let plain = sealed.seals.open(&entry.key, &entry.value)?;
            let on = Precondition::Revision(entry.revision);
            match sealed.put(&entry.key, plain, on).await {
                // Someone else was here first.
                Ok(_) | Err(KvError::Conflict { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(sealed)
    }

    /// The id of a key with which something in a store is sealed, if anything is.
    ///
    /// # Errors
    /// The store's.
    pub async fn key_of(store: &dyn Kv) -> Result<Option<String>, KvError> {
        let entries = store.list("").await?;
        Ok(entries.iter().find_map(|entry| sealed_with(&entry.value)))
    }
}

impl Kv for SealedKv {
    fn get<'a>(&'a self, key: &'a str) -> Later<'a, Option<Entry>> {
        Box::pin(async move {
            let found = self.inner.get(key).await?;
            found.map(|entry| self.seals.open_entry(entry)).transpose()
        })
    }

    fn put<'a>(&'a self, key: &'a str, value: Vec<u8>, on: Precondition) -> Later<'a, Revision> {
        Box::pin(async move {
            let sealed = self.seals.seal(key, &value)?;
            self.inner.put(key, sealed, on).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str, on: Precondition) -> Later<'a, Revision> {
        self.inner.delete(key, on)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Later<'a, Vec<Entry>> {
        Box::pin(async move {
            let found = self.inner.list(prefix).await?.into_iter();
            found.map(|entry| self.seals.open_entry(entry)).collect()
        })
    }

    fn watch(&self) -> Later<'_, Watch> {
        Box::pin(async move {
            let Watch {
                snapshot,
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
                            // The catalog will say that it cannot read it, and go on.
                            Err(error) => error!(%error, "a change cannot be opened"),
                        }
                    }
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            });
            Ok(Watch {
                snapshot,
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
    /// Nonce and ciphertext, base64.
    data: String,
}

/// What a value holds if it is sealed.
fn envelope(value: &[u8]) -> Option<Sealed> {
    let read: Envelope<&RawValue> = serde_json::from_slice(value).ok()?;
    (read.v == VERSION)
        .then(|| serde_json::from_str(read.record.get()).ok())
        .flatten()
}

fn sealed_with(value: &[u8]) -> Option<String> {
    envelope(value).map(|sealed| sealed.key)
}

/// The ciphers of all master keys, by id.
struct Seals {
    first: String,
    ciphers: HashMap<String, XChaCha20Poly1305>,
}

impl Seals {
    fn new(keys: &MasterKeys) -> Self {
        let cipher = |key: &crate::MasterKey| {
            let own = XChaCha20Poly1305::new(&key.derive("seal").into());
            (key.id().to_owned(), own)
        };
        Self {
            first: keys.first.id().to_owned(),
            ciphers: keys.all().map(cipher).collect(),
        }
    }

    fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, KvError> {
        let failed = |why: &str| KvError::Unavailable(format!("{name} cannot be sealed: {why}"));
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|e| failed(&e.to_string()))?;
        let cipher = &self.ciphers[&self.first];
        let payload = Payload {
            msg: plain,
            aad: name.as_bytes(),
        };
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| failed("it is too long"))?;
        let envelope = Envelope {
            v: VERSION,
            record: Sealed {
                key: self.first.clone(),
                data: STANDARD.encode([nonce.as_slice(), &sealed].concat()),
            },
        };
        serde_json::to_vec(&envelope).map_err(|e| failed(&e.to_string()))
    }

    /// What a value was before it was sealed; one that is not sealed is as it is.
    fn open(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, KvError> {
        let Some(Sealed { key: id, data }) = envelope(value) else {
            return Ok(value.to_vec());
        };
        let Some(cipher) = self.ciphers.get(&id) else {
            return Err(KvError::Locked { id });
        };
        let damaged = || KvError::Damaged {
            key: name.to_owned(),
        };
        let data = STANDARD.decode(data).map_err(|_| damaged())?;
        let (nonce, sealed) = data.split_at_checked(NONCE).ok_or_else(damaged)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| damaged())?;
        let payload = Payload {
            msg: sealed,
            aad: name.as_bytes(),
        };
        cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| damaged())
    }

    fn open_entry(&self, mut entry: Entry) -> Result<Entry, KvError> {
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
    async fn what_was_not_sealed_is_and_what_an_older_key_sealed_is_sealed_anew() {
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
                assert_eq!(stored, before, "what is sealed well is left alone");
            }
            before = stored;
        }
        let wrong = open(&store, &[1]).await.expect_err("the key is not there");
        assert!(matches!(wrong, KvError::Locked { id } if id == keys(&[2]).first.id()));
    }

    #[tokio::test]
    async fn a_value_that_was_moved_or_changed_does_not_open() {
        let store = Arc::new(MemoryKv::default());
        let sealed = open(&store, &[1]).await.expect("opened");
        let put = sealed.put("a/1", b"x".to_vec(), Precondition::Absent);
        put.await.expect("written");
        let value = store.get("a/1").await.expect("read").expect("there").value;
        let moved = store.put("a/2", value.clone(), Precondition::Absent);
        moved.await.expect("written");
        let refused = sealed.get("a/2").await.expect_err("moved");
        assert!(matches!(refused, KvError::Damaged { key } if key == "a/2"));
        // The last characters of the base64 are the tag's.
        let text = String::from_utf8(value).expect("text");
        let at = text.rfind('"').expect("its end") - 6;
        let mut changed = text.into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let put = store.put("a/1", changed, Precondition::Any);
        put.await.expect("written");
        assert!(sealed.get("a/1").await.is_err());
    }
}
