//! Versions, of which the published ones are immutable.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CodeRef, Field, FunctionConfig, Invalid, Provisioned, Timestamp};

/// A version of a function.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// `$LATEST`, which can still change.
    #[default]
    Latest,
    /// A published version.
    Number(u64),
}

impl Version {
    /// Parses `$LATEST`, in any case, or a number.
    ///
    /// # Errors
    /// [`Invalid`] for [`Field::Version`].
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.eq_ignore_ascii_case("$LATEST") {
            return Ok(Self::Latest);
        }
        match text.parse::<u64>() {
            Ok(number @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(Self::Number(number))
            }
            _ => Err(Invalid::new(
                Field::Version,
                text,
                "$LATEST and the numbers of published versions",
            )),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("$LATEST"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

/// A published version: immutable code and configuration, and its provisioned concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedVersion {
    /// Description given at publication.
    pub description: String,
    /// Settings.
    pub config: FunctionConfig,
    /// Code.
    pub code: CodeRef,
    /// Publication time.
    pub added: Timestamp,
    /// Provisioned concurrency, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned: Option<Provisioned>,
}

impl PublishedVersion {
    /// Returns the maximum memory of the version's provisioned instances (MB).
    pub fn provisioned_mb(&self) -> u32 {
        let instances = self
            .provisioned
            .as_ref()
            .map_or(0, Provisioned::max_instances);
        instances.saturating_mul(self.config.memory.mb())
    }
}
