//! Names and identifiers: newtypes that can only be built by their parsing constructors.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Field, Invalid};

/// Implements `as_str`, `Display` and conversions from and to `String` for a text newtype.
macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}
pub(crate) use text;

/// An account id: SCF's AppId.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u64);

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A function name: 2 to 60 characters; letters, digits, `-` and `_`; a letter first, a letter or digit last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(String);
text!(FunctionName);

impl FunctionName {
    /// Description of the allowed names, for error messages.
    pub const ALLOWED: &'static str = "2 to 60 characters: a letter first, then letters, digits, '-' or '_', a letter or digit last";

    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::FunctionName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_name(text, 2, 60) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(Field::FunctionName, text, Self::ALLOWED))
        }
    }
}

/// A namespace: a group of functions within an account. `default` always exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(String);
text!(Namespace);

impl Namespace {
    /// Parses a namespace name: 2 to 60 characters, same rules as function names.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Namespace`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_name(text, 2, 60) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(Field::Namespace, text, FunctionName::ALLOWED))
        }
    }

    /// Returns whether it is `default`, which always exists and cannot be deleted.
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

pub(crate) fn is_name(text: &str, min: usize, max: usize) -> bool {
    let bytes = text.as_bytes();
    (min..=max).contains(&bytes.len())
        && bytes[0].is_ascii_alphabetic()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A layer name: 1 to 64 characters; letters, digits, `-` and `_`; a letter first, a letter or digit last.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerName(String);
text!(LayerName);

impl LayerName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::LayerName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_name(text, 1, 64) {
            Ok(Self(text.to_owned()))
        } else {
            let allowed = "1 to 64 characters: a letter first, then letters, digits, '-' or '_', a letter or digit last";
            Err(Invalid::new(Field::LayerName, text, allowed))
        }
    }
}

/// The unique key of a function: account, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FunctionKey {
    /// Owning account.
    pub account: AccountId,
    /// Namespace within the account.
    pub namespace: Namespace,
    /// Name within the namespace.
    pub name: FunctionName,
}

/// A stable function id in SCF's form: `lam-` and eight characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FunctionId(String);

impl FunctionId {
    /// Generates an id from 40 random bits.
    pub fn from_random(random: u64) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut id = String::from("lam-");
        for i in 0..8 {
            let five_bits = (random >> (i * 5)) & 31;
            id.push(char::from(ALPHABET[five_bits as usize]));
        }
        Self(id)
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A reference to a version of a function: `$LATEST`, a number or an alias.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Qualifier {
    /// `$LATEST`: the mutable code and configuration.
    #[default]
    Latest,
    /// A published version.
    Version(u64),
    /// An alias. `$DEFAULT` always exists.
    Alias(String),
}

impl Qualifier {
    /// Parses a qualifier: `$LATEST` in any case, a number, or an alias name. Empty means `$LATEST`.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Qualifier`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.eq_ignore_ascii_case("$LATEST") {
            return Ok(Self::Latest);
        }
        if text == "$DEFAULT" || is_name(text, 2, 60) {
            return Ok(Self::Alias(text.to_owned()));
        }
        match text.parse::<u64>() {
            Ok(number) if number > 0 && text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self::Version(number))
            }
            _ => Err(Invalid::new(
                Field::Qualifier,
                text,
                "$LATEST, $DEFAULT, a version number or an alias name",
            )),
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Version(number) => number.fmt(f),
            Self::Alias(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for Qualifier {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Qualifier> for String {
    fn from(qualifier: Qualifier) -> String {
        qualifier.to_string()
    }
}

/// The id of a request, a UUID. Responses and log lines carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Builds an id from sixteen random bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the sixteen bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses an id in the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::RequestId`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let refused = || Invalid::new(Field::RequestId, text, "a UUID");
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        if text.len() != 36 || digits.len() != 32 {
            return Err(refused());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(refused);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The entry point of a function, `file.function`; each part has 2 to 60 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Handler(String);
text!(Handler);

impl Handler {
    /// Parses a handler.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Handler`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let allowed =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.' | b':');
        let dot = text.rfind('.').filter(|at| *at > 0);
        let fits = |part: &str| (2..=60).contains(&part.len());
        let well_formed = dot.is_some_and(|at| fits(&text[..at]) && fits(&text[at + 1..]));
        // The file is looked up below the root of the code, so `..` and absolute paths are rejected.
        let stays_inside = !text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if well_formed && stays_inside && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                Field::Handler,
                text,
                "file.function, each part 2 to 60 letters, digits, '-', '_' or '/'",
            ))
        }
    }
}

impl Default for Handler {
    fn default() -> Self {
        Self("index.main_handler".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_function_names_are_rejected() {
        for good in ["ab", "hello", "a-b_c9", &"a".repeat(60)] {
            assert!(FunctionName::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "9a",
            "-ab",
            "ab-",
            "ab_",
            "a b",
            "é-a",
            &"a".repeat(61),
            "a/b",
        ] {
            assert!(FunctionName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn qualifiers_parse_and_invalid_ones_are_rejected() {
        let rows = [
            ("$LATEST", Qualifier::Latest),
            ("$latest", Qualifier::Latest),
            ("", Qualifier::Latest),
            ("7", Qualifier::Version(7)),
            ("$DEFAULT", Qualifier::Alias("$DEFAULT".into())),
            ("prod", Qualifier::Alias("prod".into())),
        ];
        for (text, expected) in rows {
            assert_eq!(Qualifier::parse(text), Ok(expected), "{text}");
        }
        for bad in ["0", "-1", "+1", "$OTHER", "a b", "1x"] {
            assert!(Qualifier::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn invalid_handlers_are_rejected() {
        for good in ["index.main_handler", "src/app.handler", "in.dex.main"] {
            assert!(Handler::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "index",
            ".x",
            "index.",
            "../x.main",
            "/etc/x.main",
            "a.main",
            "index.m",
            "in dex.main",
        ] {
            assert!(Handler::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn request_ids_round_trip() {
        let text = "0123e456-89ab-cdef-0123-456789abcdef";
        assert_eq!(
            RequestId::parse(text).map(|id| id.to_string()),
            Ok(text.to_owned())
        );
        for bad in [
            "",
            "0123e456-89ab-cdef-0123-456789abcdeg",
            "0123e45689abcdef0123456789abcdef0000",
        ] {
            assert!(RequestId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn error_names_field_value_and_allowed_values() {
        let text = FunctionName::parse("9").map_err(|e| e.to_string());
        assert_eq!(
            text,
            Err(format!(
                "function name: \"9\" is not allowed; {}",
                FunctionName::ALLOWED
            ))
        );
    }
}
