//! The failure document for a caller of a URL.
//!
//! The owner of a function, who signs, receives SCF's whole document including exception and stack trace. Anonymous
//! callers receive the code and the request's id alone; the rest is in the log.

use axum::response::Response;
use bytes::Bytes;
use engine::invoke::InvocationResult;
use model::{RequestId, StatusCode as Outcome, UrlAuth};
use serde_json::json;

use super::{EntryPoint, Target, Urls, reply};

impl Target {
    /// Returns whether callers are not authenticated.
    pub(super) fn is_anonymous(&self) -> bool {
        match &self.entry_point {
            EntryPoint::Domain => true,
            EntryPoint::Url(url) => url.auth != UrlAuth::Signed,
            EntryPoint::Api(matched) => !matched.api.signed,
        }
    }
}

impl Urls {
    /// Returns the reply to a request whose function failed.
    pub(super) fn failed(
        &self,
        target: &Target,
        id: RequestId,
        finished: InvocationResult,
    ) -> Response {
        let document = visible(target, id, finished.status, finished.answer);
        reply::json(self.errors.status(finished.status), document)
    }
}

/// Returns the failure document, reduced to what the caller may see.
pub(super) fn visible(target: &Target, id: RequestId, outcome: Outcome, whole: Bytes) -> Bytes {
    if target.is_anonymous() {
        redacted(outcome, id)
    } else {
        whole
    }
}

/// Returns a document of the failure's code and the request's id.
pub(super) fn redacted(outcome: Outcome, id: RequestId) -> Bytes {
    let document =
        json!({"errorCode": -1, "requestId": id.to_string(), "statusCode": outcome.as_u16()});
    document.to_string().into()
}
