//! The key that all others are made from. It is kept outside of the store that it seals.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A master key. It prints as its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    bytes: [u8; 32],
    id: String,
}

impl MasterKey {
    /// Keeps 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut key = Self {
            bytes,
            id: String::new(),
        };
        key.id = hex::encode(&key.derive("id")[..8]);
        key
    }

    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// Reads one that was written. `None` when it is not base64 of 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.trim()).ok()?;
        bytes.try_into().ok().map(Self::new)
    }

    /// The key as text, for the file that keeps it.
    pub fn reveal(&self) -> String {
        STANDARD.encode(self.bytes)
    }

    /// What it is called. Says nothing of what it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A key for one purpose, which says nothing of those for others.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        // HMAC takes keys of every length, so this never fails.
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

/// The key that seals, and older ones that still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKeys {
    /// What is written from now on is sealed with it.
    pub first: MasterKey,
    /// What was written before may be sealed with one of them.
    pub older: Vec<MasterKey>,
}

impl MasterKeys {
    /// Reads keys that stand one after another, the newest first. `None` when one of them is none.
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

    /// All of them, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_shows_nothing() {
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
    fn the_first_of_several_is_the_newest() {
        let [new, old] = [1, 2].map(|byte| MasterKey::new([byte; 32]));
        let text = format!("{}\n\n{}\n", new.reveal(), old.reveal());
        let keys = MasterKeys::parse(text.lines()).expect("keys");
        assert_eq!((keys.first, keys.older), (new, vec![old]));
        assert_eq!(MasterKeys::parse("".lines()), None);
        assert_eq!(MasterKeys::parse("AAAA\nx".lines()), None);
    }
}
