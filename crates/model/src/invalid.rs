//! The one error of every parsing constructor.

use thiserror::Error;

/// A value that is not allowed: says which field, what was given and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {given} is not allowed; {allowed}")]
pub struct Invalid {
    /// The field, in the API's spelling.
    pub field: &'static str,
    /// What was given, quoted and cut to a bounded length.
    pub given: String,
    /// What would have been accepted.
    pub allowed: String,
}

impl Invalid {
    /// Describes a refused value. Long values are cut, so that an error never repeats a whole request.
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
