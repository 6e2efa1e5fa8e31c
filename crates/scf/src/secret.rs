//! Secret keys with redacted `Debug` output.

use std::fmt;

/// A secret key. It has no `Display`, and its `Debug` output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(String);

impl SecretKey {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Returns the plain key, for signing and for the credentials file.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// A borrowed secret key. Its `Debug` output is redacted.
#[derive(Clone, Copy)]
pub struct SecretKeyRef<'a>(&'a str);

impl<'a> SecretKeyRef<'a> {
    /// Wraps a key.
    pub fn new(key: &'a str) -> Self {
        Self(key)
    }

    /// Returns the plain key, for signing.
    pub(crate) fn reveal(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a SecretKey> for SecretKeyRef<'a> {
    fn from(key: &'a SecretKey) -> Self {
        Self(&key.0)
    }
}

impl fmt::Debug for SecretKeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKeyRef(…)")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}
