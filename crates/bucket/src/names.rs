//! Validated names of buckets, objects and versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum length of a full bucket name, as in COS.
const BUCKET_MAX: usize = 60;
/// Maximum length of a key in bytes. This is S3's limit; COS's is 850.
const KEY_MAX: usize = 1024;

/// An invalid name, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub String);

/// The full name of a bucket: its name and the owner's AppId, as in `photos-1250000000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName {
    full: String,
    /// Position of the hyphen before the AppId.
    hyphen: usize,
    app_id: u64,
}

impl BucketName {
    /// Builds the full name of an account's bucket.
    ///
    /// # Errors
    /// The name is invalid; the error states the allowed form.
    pub fn new(name: &str, app_id: u64) -> Result<Self, InvalidName> {
        Self::parse(&format!("{name}-{app_id}"))
    }

    /// Parses a full name.
    ///
    /// # Errors
    /// The name is invalid; the error states the allowed form.
    pub fn parse(full: &str) -> Result<Self, InvalidName> {
        let invalid = |why: &str| {
            InvalidName(format!(
                "bucket name {full:?} {why}; a full name is <name>-<appid>, of lowercase letters, digits and hyphens, with a \
                 letter or digit at both ends, and has at most {BUCKET_MAX} characters"
            ))
        };
        if full.len() > BUCKET_MAX {
            return Err(invalid("is too long"));
        }
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !full.chars().all(fits) {
            return Err(invalid("has other characters"));
        }
        let (name, number) = full
            .rsplit_once('-')
            .ok_or_else(|| invalid("has no number of an account"))?;
        if name.is_empty() || name.starts_with('-') || name.ends_with('-') {
            return Err(invalid("does not begin and end as it must"));
        }
        let app_id = number
            .parse()
            .ok()
            .filter(|app_id: &u64| app_id.to_string() == number)
            .ok_or_else(|| invalid("does not end with the number of an account"))?;
        Ok(Self {
            hyphen: name.len(),
            full: full.to_owned(),
            app_id,
        })
    }

    /// Returns the full name.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Returns the name without the AppId.
    pub fn name(&self) -> &str {
        &self.full[..self.hyphen]
    }

    /// Returns the owner's AppId.
    pub fn app_id(&self) -> u64 {
        self.app_id
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

impl TryFrom<String> for BucketName {
    type Error = InvalidName;

    fn try_from(full: String) -> Result<Self, InvalidName> {
        Self::parse(&full)
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.full
    }
}

/// The key of an object in its bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Validates a key.
    ///
    /// # Errors
    /// The key is empty or too long.
    pub fn parse(key: &str) -> Result<Self, InvalidName> {
        if key.is_empty() || key.len() > KEY_MAX {
            let length = key.len();
            return Err(InvalidName(format!(
                "an object's key has {length} bytes; it may have 1 to {KEY_MAX}"
            )));
        }
        Ok(Self(key.to_owned()))
    }

    /// Returns the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version id of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionId {
    /// The version written while versioning was off: `null`.
    Null,
    /// A version written while versioning was on.
    Number(u64),
}

impl VersionId {
    /// Parses the output of `Display`. Returns `None` if no version can have this id.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let number = u64::from_str_radix(text, 16).ok()?;
        (Self::Number(number).to_string() == text).then_some(Self::Number(number))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Number(number) => write!(f, "{number:016x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_bucket_names_have_two_parts() {
        let name = BucketName::parse("my-photos-1250000000").expect("a name");
        assert_eq!((name.name(), name.app_id()), ("my-photos", 1_250_000_000));
        assert_eq!(BucketName::new("my-photos", 1_250_000_000), Ok(name));
        for wrong in [
            "",
            "photos",
            "-1",
            "a--1x",
            "a-",
            "a-01",
            "A-1",
            "a_b-1",
            "-a-1",
            "a--1",
            "a.b-1",
            "a-18446744073709551616",
        ] {
            assert!(BucketName::parse(wrong).is_err(), "{wrong}");
        }
        assert!(BucketName::new(&"a".repeat(58), 1).is_ok());
        assert!(BucketName::new(&"a".repeat(59), 1).is_err());
    }

    #[test]
    fn object_keys_are_bounded() {
        assert!(ObjectKey::parse("").is_err());
        assert!(ObjectKey::parse(&"k".repeat(1024)).is_ok());
        assert!(ObjectKey::parse(&"é".repeat(513)).is_err());
    }

    #[test]
    fn version_ids_round_trip() {
        for version in [
            VersionId::Null,
            VersionId::Number(0),
            VersionId::Number(u64::MAX),
        ] {
            assert_eq!(VersionId::parse(&version.to_string()), Some(version));
        }
        for wrong in ["", "1", "NULL", "+000000000000001", "00000000000000FF"] {
            assert_eq!(VersionId::parse(wrong), None, "{wrong}");
        }
    }
}
