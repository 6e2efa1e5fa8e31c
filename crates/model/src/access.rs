//! Accounts, their API keys, and the roles of their functions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{is_name, text};
use crate::{AccountId, Field, Invalid, Policy, Timestamp};

/// An account name, unique per installation: 2 to 60 characters, same rules as function names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);
text!(AccountName);

impl AccountName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::AccountName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_name(text, 2, 60) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                Field::AccountName,
                text,
                crate::FunctionName::ALLOWED,
            ))
        }
    }
}

/// The public id of an API key: 1 to 128 letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(String);
text!(SecretId);

impl SecretId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::SecretId`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if (1..=128).contains(&text.len()) && text.bytes().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                Field::SecretId,
                text,
                "1 to 128 letters, digits and _ are",
            ))
        }
    }
}

/// A role name: 1 to 128 letters, digits and `+=,.@_-`, as in CAM.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleName(String);
text!(RoleName);

impl RoleName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::RoleName`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        if (1..=128).contains(&text.len()) && text.bytes().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                Field::RoleName,
                text,
                "1 to 128 letters, digits and +=,.@_- are",
            ))
        }
    }
}

/// A secret string. Its `Debug` output is redacted, and the catalog encrypts it at rest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the plain text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An account: the tenant that owns namespaces, functions and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// SCF's AppId.
    pub id: AccountId,
    /// The Uin, which functions receive and resource names contain.
    pub uin: u64,
    /// Name chosen by the operator.
    pub name: AccountName,
    /// Creation time.
    pub added: Timestamp,
    /// Time at which it was closed. A closed account serves no requests while its resources are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
}

/// An API key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Owning account.
    pub account: AccountId,
    /// Public id.
    pub id: SecretId,
    /// Secret key.
    pub secret: Secret,
    /// Free-form description.
    pub description: String,
    /// Permissions; none allows everything within the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Whether requests must sign the headers for action, version, time and region. Official SDKs do not sign them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign_action: bool,
    /// Whether requests with this key are rejected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Creation time.
    pub added: Timestamp,
}

/// A named set of permissions that functions can assume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Owning account.
    pub account: AccountId,
    /// Name.
    pub name: RoleName,
    /// Free-form description.
    pub description: String,
    /// Permissions of a function that assumes it.
    pub policy: Policy,
    /// Creation time. Temporary credentials issued for an older role of the same name are rejected.
    pub added: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(RoleName::parse("SCF_ExecuteRole").is_ok() && RoleName::parse("a/b").is_err());
        assert!(RoleName::parse("").is_err() && RoleName::parse(&"x".repeat(129)).is_err());
        assert!(SecretId::parse("AKID01").is_ok() && SecretId::parse("a/b").is_err());
        assert!(AccountName::parse("team-a").is_ok() && AccountName::parse("1").is_err());
    }

    #[test]
    fn debug_output_of_a_secret_is_redacted() {
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(…)");
    }
}
