//! Code packages, named by what they contain.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A SHA-256 digest in lower-case hex: the name of a code package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256(String);

impl Sha256 {
    /// Keeps a digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads 64 lower-case hex digits; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        fine.then(|| Self(text.to_owned()))
    }

    /// The digest as 64 hex digits. Safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The code that a function runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// The package as it was uploaded; what GetFunctionAddress serves.
    pub package: Sha256,
    /// The package's size in bytes, zipped.
    pub size: u64,
    /// The tree to run. Differs from `package` when dependencies were installed into it.
    pub tree: Sha256,
}
