//! Content-addressed code packages.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A SHA-256 digest in lower-case hex, used as the name of a code package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256(String);

impl Sha256 {
    /// Encodes a raw digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Parses 64 lower-case hex digits; returns `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        fine.then(|| Self(text.to_owned()))
    }

    /// Returns the digest as 64 hex digits, which are safe in a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to the code of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// Package as uploaded, which GetFunctionAddress returns.
    pub package: Sha256,
    /// Size of the zipped package (bytes).
    pub size: u64,
    /// Tree to run. It is that of `package`, or if dependencies were installed the one that the archive of this digest
    /// unpacks to.
    pub tree: Sha256,
}
