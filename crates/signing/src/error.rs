//! The codes of failed authentications.

use access::AuthError;
use scf::{Code, Error};

/// Maps a failed authentication.
pub fn auth_error(error: AuthError<Error>) -> Error {
    let code = match &error {
        AuthError::Blocked | AuthError::NonceLimit => Code::RequestLimitExceeded,
        AuthError::UnknownKey | AuthError::DisabledKey => Code::SecretIdNotFound,
        AuthError::TokenMissing
        | AuthError::TokenUnexpected
        | AuthError::Token(_)
        | AuthError::RoleDeleted(_) => Code::TokenFailure,
        AuthError::NonceUsed => Code::SignatureFailure,
        AuthError::Signature(refused) => return refused.clone(),
    };
    let message = match error {
        AuthError::TokenMissing => format!("{error}; send it in the header X-TC-Token"),
        AuthError::TokenUnexpected => format!("{error}; remove the header X-TC-Token"),
        AuthError::NonceUsed => {
            "header X-TC-Nonce: the key has used it before; sign each request with a new one"
                .to_owned()
        }
        other => other.to_string(),
    };
    Error::new(code, message)
}

pub(crate) fn version_1_disabled() -> Error {
    let message = "signatures of version 1 are disabled (signature_v1); sign with TC3-HMAC-SHA256";
    Error::new(Code::InvalidAuthorization, message)
}
