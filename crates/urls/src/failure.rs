//! The failure document for a caller of a URL.
//!
//! The owner of a function, who signs, receives SCF's whole document including exception and stack trace. Anonymous
//! callers receive the code and the request's id alone; the rest is in the log.

use axum::response::Response;
use bytes::Bytes;
use model::{Failure, RequestId};
use scf::failure::FailureDocument;

use super::reply;
use super::target::Target;
use super::urls::Urls;

impl Urls {
    /// Returns the reply to a request whose function failed.
    pub(super) fn failed(&self, target: &Target, id: RequestId, failure: &Failure) -> Response {
        reply::json(
            self.errors.status(failure.kind),
            visible(target, id, failure),
        )
    }
}

/// Returns the failure document, reduced to what the caller may see.
pub(super) fn visible(target: &Target, id: RequestId, failure: &Failure) -> Bytes {
    document(failure, id, target.is_anonymous())
}

/// Returns SCF's document of a failure. A failure's number is SCF's function status code.
pub(super) fn document(failure: &Failure, id: RequestId, redacted: bool) -> Bytes {
    let document = FailureDocument {
        status: failure.kind.number(),
        message: &failure.message,
        stack: failure.stack.as_deref(),
        request: &id.to_string(),
    };
    let document = match redacted {
        true => document.encode_redacted(),
        false => document.encode(),
    };
    document.into()
}
