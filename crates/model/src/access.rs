//! Who may use an installation: accounts, their keys, and the roles of their functions.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{is_name, text};
use crate::{AccountId, Invalid, Policy, Timestamp};

/// An account's name among the operator's others: 2 to 60 characters under the rule of function names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);
text!(AccountName);

impl AccountName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Name`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_name(text, 2, 60) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new("Name", text, crate::FunctionName::ALLOWED))
        }
    }
}

/// The public part of a key: 1 to 128 letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretId(String);
text!(SecretId);

impl SecretId {
    /// Checks and keeps an id.
    ///
    /// # Errors
    /// [`Invalid`] for the field `SecretId`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if (1..=128).contains(&text.len()) && text.bytes().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "SecretId",
                text,
                "1 to 128 letters, digits and _ are",
            ))
        }
    }
}

/// A role's name: 1 to 128 letters, digits and `+=,.@_-`, as CAM has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleName(String);
text!(RoleName);

impl RoleName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`Invalid`] for the field `Role`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        if (1..=128).contains(&text.len()) && text.bytes().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "Role",
                text,
                "1 to 128 letters, digits and +=,.@_- are",
            ))
        }
    }
}

/// A text that no one sees: it prints as nothing, and is stored sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An account: whoever owns namespaces, functions and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// SCF's AppId.
    pub id: AccountId,
    /// The Uin, which functions are told and resources are written with.
    pub uin: u64,
    /// What the operator calls it.
    pub name: AccountName,
    /// When it was created.
    pub added: Timestamp,
    /// Since when it is closed: it serves nobody any more, and what it owns is being deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
}

/// One key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Whose it is.
    pub account: AccountId,
    /// Its public part.
    pub id: SecretId,
    /// Its secret part.
    pub secret: Secret,
    /// For people.
    pub description: String,
    /// What it may do; everything within the account where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Whether its requests must sign the action, the version, the time and the region, which official SDKs do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign_action: bool,
    /// Whether it is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// When it was created.
    pub added: Timestamp,
}

/// What functions may do, by a name that they are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Whose it is.
    pub account: AccountId,
    /// Its name.
    pub name: RoleName,
    /// For people.
    pub description: String,
    /// What who has it may do.
    pub policy: Policy,
    /// When it was created. What was lent out in the name of an older one of the same name is not taken.
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
    fn a_secret_prints_as_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(…)");
    }
}
