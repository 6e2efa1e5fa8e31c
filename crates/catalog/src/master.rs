//! The master key, from which all other keys are derived. It is kept outside of the store that it encrypts.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A master key. Its `Debug` output shows only the id.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    bytes: [u8; 32],
    id: String,
}

impl MasterKey {
    /// Builds a key from 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut key = Self {
            bytes,
            id: String::new(),
        };
        key.id = hex::encode(&key.derive("id")[..8]);
        key
    }

    /// Generates a random key.
    ///
    /// # Errors
    /// If the system's random number generator fails.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// Parses a key from base64. Returns `None` unless it encodes 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        bytes.try_into().ok().map(Self::new)
    }

    /// Returns the key as base64, to be written to the key file.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.bytes)
    }

    /// Returns the key's id, which reveals nothing of the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Derives a key for one purpose. Derived keys are independent of each other.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        // HMAC accepts keys of any length, so this never fails.
        Hmac::<Sha256>::new_from_slice(&self.bytes)
            .map(|mac| {
                let text = format!("virga 1 {purpose}");
                mac.chain_update(text).finalize().into_bytes().into()
            })
            .unwrap_or_default()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// The current master key, and older keys that are only used for decryption (key rotation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeys {
    /// Key that encrypts new records.
    pub first: MasterKey,
    /// Keys that may have encrypted existing records.
    pub older: Vec<MasterKey>,
}

impl MasterKeys {
    /// Parses keys, one per line, newest first. Returns `None` if one is invalid.
    pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut keys = texts
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(MasterKey::parse);
        Some(Self {
            first: keys.next()??,
            older: keys.collect::<Option<_>>()?,
        })
    }

    /// Returns the ciphers for one purpose under all keys.
    pub fn seals(&self, purpose: &str) -> seal::Seals {
        let key = |master: &MasterKey| seal::Key {
            id: master.id().to_owned(),
            bytes: master.derive(purpose),
        };
        seal::Seals::new(key(&self.first), self.older.iter().map(key))
    }

    /// Iterates over all keys, newest first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_round_trips_and_debug_output_is_redacted() {
        let key = MasterKey::random().expect("random bytes");
        assert_eq!(MasterKey::parse(&key.reveal()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        assert_ne!(key.derive("one"), key.derive("two"));
        assert_ne!(key, MasterKey::random().expect("random bytes"));
        for bad in ["", "x", "AAAA"] {
            assert_eq!(MasterKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn first_key_in_the_file_is_current() {
        let [new, old] = [1, 2].map(|byte| MasterKey::new([byte; 32]));
        let text = format!("{}\n\n{}\n", new.reveal(), old.reveal());
        let keys = MasterKeys::parse(text.lines()).expect("keys");
        assert_eq!((keys.first, keys.older), (new, vec![old]));
        assert_eq!(MasterKeys::parse("".lines()), None);
        assert_eq!(MasterKeys::parse("AAAA\nx".lines()), None);
    }
}
