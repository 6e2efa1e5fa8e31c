//! The fields of a form, and who signed its policy.

use std::collections::BTreeMap;

use crate::authorizer::Principal;

/// The signer of a form's policy.
pub(super) enum Signer {
    Nobody,
    Cos(Principal),
    S3(Principal),
}

impl Signer {
    /// Returns the signer, if there is one.
    pub(super) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Nobody => None,
            Self::Cos(principal) | Self::S3(principal) => Some(principal),
        }
    }
}

/// The fields in front of the file, with lower-case names.
pub(super) type Fields = BTreeMap<String, String>;
