//! Names of triggers, and ids in their form.

use serde::{Deserialize, Serialize};

use crate::names::text;
use crate::{Field, Invalid};

/// A trigger name: 1 to 100 letters, digits, `-` and `_`. Names that are host names may contain `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerName(String);
text!(TriggerName);

/// Description of the allowed names.
const NAMES: &str = "1 to 100 letters, digits, '-' and '_' are";

impl TriggerName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::TriggerName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if (1..=100).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(Field::TriggerName, text, NAMES))
        }
    }

    /// Parses a name that is not a host name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::TriggerName`].
    pub fn parse_plain(text: &str) -> Result<Self, Invalid> {
        match Self::parse(text) {
            Ok(name) if !text.contains('.') => Ok(name),
            _ => Err(Invalid::new(Field::TriggerName, text, NAMES)),
        }
    }

    /// Generates the id of a function URL from 50 random bits.
    pub fn url_id(random: u64) -> Self {
        Self(characters(random, 10))
    }

    /// Generates the id of an API gateway service from 40 random bits.
    pub fn service_id(random: u64) -> Self {
        Self(format!("{SERVICE}{}", characters(random, 8)))
    }
}

/// Prefix of service ids.
const SERVICE: &str = "service-";

/// Encodes random bits as `count` characters of five bits each.
pub(crate) fn characters(random: u64, count: u32) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letter = |i: u32| char::from(ALPHABET[((random >> (i * 5)) & 31) as usize]);
    (0..count).map(letter).collect()
}
