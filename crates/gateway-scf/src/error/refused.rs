//! The codes of requests that are refused before they are an action.

use scf::{Code, Error, form_too_long};
use traffic::BodyError;

/// The advice for packages that are too large for a request.
pub(super) const LARGER_PACKAGE_HINT: &str = "; put a larger one into a bucket and name it by CosBucketName and CosObjectName, as virga deploy does";

/// Maps an error of receiving a body. `signed` = its headers name the caller.
pub(crate) fn body(signed: bool, unread: &BodyError) -> Error {
    let code = match unread {
        BodyError::TooLong(_) if !signed => return form_too_long(),
        // Only packages are that long.
        BodyError::TooLong(_) => {
            let message = format!("{unread}{LARGER_PACKAGE_HINT}");
            return Error::new(Code::RequestSizeLimitExceeded, message);
        }
        BodyError::Incomplete => Code::InvalidParameter,
        BodyError::Overloaded(_) => Code::RequestLimitExceeded,
        BodyError::Disk(_) => Code::InternalError,
    };
    Error::new(code, unread.to_string())
}

/// Returns whether an error is that of a body that is too long.
pub(crate) fn is_too_long(error: &Error) -> bool {
    error.code == Code::RequestSizeLimitExceeded
}

/// Returns whether an error is that of a rate limit, or of a lack of memory for bodies.
pub(crate) fn is_throttled(error: &Error) -> bool {
    error.code == Code::RequestLimitExceeded
}

/// Returns whether the same request may succeed a little later.
pub(crate) fn is_temporary(error: &Error) -> bool {
    is_throttled(error) || error.code == Code::InternalError
}

/// Returns the error for an action that does not exist.
pub(crate) fn no_action(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidAction, message)
}

/// Returns the error for a caller without permission.
pub(crate) fn unauthorized(message: impl Into<String>) -> Error {
    Error::new(Code::UnauthorizedOperation, message)
}

/// Returns the error for callers without access to the operator's API.
pub(crate) fn operator_denied() -> Error {
    let message = "only an account's root key may manage keys and roles, and not from inside a function; use a key without a policy";
    unauthorized(message)
}
