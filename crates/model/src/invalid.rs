//! The error that every parsing constructor returns.

use thiserror::Error;

/// A rejected value: the field, the value given and the values allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {given} is not allowed; {allowed}")]
pub struct Invalid {
    /// Field name as the API spells it.
    pub field: &'static str,
    /// The rejected value, quoted and truncated.
    pub given: String,
    /// Description of the accepted values.
    pub allowed: String,
}

impl Invalid {
    /// Describes a rejected value. Truncates long values so that an error never echoes a whole request.
    pub fn new(
        field: &'static str,
        given: impl std::fmt::Debug,
        allowed: impl Into<String>,
    ) -> Self {
        const SHOWN: usize = 80;
        let mut given = format!("{given:?}");
        if given.chars().count() > SHOWN {
            given = given.chars().take(SHOWN).collect();
            given.push('…');
        }
        Self {
            field,
            given,
            allowed: allowed.into(),
        }
    }
}
