//! Authenticated encryption of stored bytes under named keys.
//!
//! Bytes are encrypted with XChaCha20-Poly1305. Its 192-bit random nonce does not repeat in practice. A context is authenticated as
//! associated data, so that sealed bytes cannot be moved to another place. New bytes are sealed with the first key; older keys only open.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

const NONCE: usize = 24;
const TAG: usize = 16;

/// Bytes by which [`Seals::wrap`] makes its contents longer, at most.
pub const OVERHEAD: usize = 2 + u8::MAX as usize + NONCE + TAG;

/// The form of wrapped bytes that are encrypted.
const SEALED: u8 = 2;

/// A key with its id, which reveals nothing of it.
#[derive(Clone)]
pub struct Key {
    /// The id, of at most 255 bytes.
    pub id: String,
    /// The key.
    pub bytes: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// Why bytes cannot be sealed or opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The system has no random numbers, or there are too many bytes.
    #[error("failed to encrypt: {0}")]
    Failed(String),
    /// The key is not there.
    #[error("it is encrypted with the master key {id}, which is not here")]
    NoKey {
        /// The key's id.
        id: String,
    },
    /// The bytes were modified, or moved from another place.
    #[error("it was modified or moved")]
    Damaged,
    /// The bytes are not encrypted.
    #[error("it is not encrypted, and here everything is")]
    Plain,
}

/// The ciphers of all keys by key id.
pub struct Seals {
    first: String,
    names: [u8; 32],
    ciphers: HashMap<String, XChaCha20Poly1305>,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seals({})", self.first)
    }
}

impl Seals {
    /// Makes the ciphers of the current key and of older ones.
    pub fn new(first: Key, older: impl IntoIterator<Item = Key>) -> Self {
        let (id, names) = (first.id.clone(), mac(&first.bytes, b"names"));
        let ciphers = std::iter::once(first).chain(older).map(|key| {
            let cipher = XChaCha20Poly1305::new(&key.bytes.into());
            (key.id, cipher)
        });
        Self {
            first: id,
            names,
            ciphers: ciphers.collect(),
        }
    }

    /// Returns the id of the current key.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// Returns a digest of bytes under the current key. Without the key nobody can confirm a guess of the bytes, so the digest can be stored
    /// beside sealed bytes to find equal ones.
    pub fn digest(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.names, bytes)
    }

    /// Encrypts bytes with the current key. The context is not stored.
    ///
    /// # Errors
    /// Fails if the system has no random numbers.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| SealError::Failed(error.to_string()))?;
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        let sealed = self.ciphers[&self.first]
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::Failed("it is too long".to_owned()))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`seal`](Self::seal) returned for the same context.
    ///
    /// # Errors
    /// Fails if the key is not there, or if the bytes are not from there.
    pub fn open(&self, id: &str, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let cipher = self
            .ciphers
            .get(id)
            .ok_or_else(|| SealError::NoKey { id: id.to_owned() })?;
        let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(SealError::Damaged)?;
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| SealError::Damaged)?;
        let payload = Payload {
            msg: sealed,
            aad: context,
        };
        cipher
            .decrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SealError::Damaged)
    }

    /// Encrypts bytes, and puts the key's id before them.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn wrap(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let sealed = self.seal(context, plain)?;
        let id = self.first.as_bytes();
        let length = u8::try_from(id.len())
            .map_err(|_| SealError::Failed("the key's id is too long".to_owned()))?;
        Ok([&[SEALED, length], id, &sealed].concat())
    }

    /// Decrypts what [`wrap`](Self::wrap) returned for the same context.
    ///
    /// # Errors
    /// As [`open`](Self::open), or if the bytes are not encrypted.
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Vec<u8>, SealError> {
        let [SEALED, length, rest @ ..] = wrapped else {
            return Err(SealError::Plain);
        };
        let (id, sealed) = rest
            .split_at_checked(usize::from(*length))
            .ok_or(SealError::Damaged)?;
        let id = std::str::from_utf8(id).map_err(|_| SealError::Damaged)?;
        self.open(id, context, sealed)
    }
}

fn mac(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    // HMAC accepts keys of any length, so this never fails.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(bytes).finalize().into_bytes().into())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key {
        Key {
            id: format!("key-{byte}"),
            bytes: [byte; 32],
        }
    }

    #[test]
    fn older_keys_open_and_the_first_seals() {
        let old = Seals::new(key(1), []);
        let both = Seals::new(key(2), [key(1)]);
        let wrapped = old.wrap(b"here", b"hush").unwrap();
        assert_eq!(both.unwrap(b"here", &wrapped).unwrap(), b"hush");
        let again = both.wrap(b"here", b"hush").unwrap();
        assert!(again.len() <= 4 + OVERHEAD);
        assert_eq!(both.digest(b"x"), both.digest(b"x"));
        assert_ne!(both.digest(b"x"), old.digest(b"x"));
        let missing = SealError::NoKey {
            id: "key-2".to_owned(),
        };
        assert_eq!(old.unwrap(b"here", &again), Err(missing));
    }

    #[test]
    fn moved_modified_cut_and_plain_bytes_are_refused() {
        let seals = Seals::new(key(1), []);
        let wrapped = seals.wrap(b"here", b"hush").unwrap();
        assert_eq!(seals.unwrap(b"there", &wrapped), Err(SealError::Damaged));
        for index in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[index] ^= 1;
            assert!(seals.unwrap(b"here", &changed).is_err(), "byte {index}");
            assert!(
                seals.unwrap(b"here", &wrapped[..index]).is_err(),
                "cut to {index}"
            );
        }
        assert_eq!(seals.unwrap(b"here", b"hush"), Err(SealError::Plain));
    }
}
