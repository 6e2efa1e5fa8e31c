//! The failure document for a caller of a URL.
//!
//! The owner of a function, who signs, receives SCF's whole document including exception and stack trace. Anonymous
//! callers receive the code and the request's id alone; the rest is in the log.

use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use engine::invoke::InvocationResult;
use model::{RequestId, StatusCode as Outcome, UrlAuth};
use serde_json::json;

use super::{EntryPoint, Target, Urls, reply};

/// The HTTP status of a failed function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UrlErrors {
    /// SCF's code is the status, as in SCF; most of them are in a range that HTTP leaves free.
    #[default]
    Scf,
    /// The nearest standard HTTP status, which load balancers, monitors and browsers understand.
    Http,
}

impl UrlErrors {
    /// Returns the HTTP status of an outcome.
    pub(super) fn status(self, outcome: Outcome) -> StatusCode {
        // HTTP has the same status.
        if outcome == Outcome::RequestTooLarge {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        match self {
            Self::Scf => {
                StatusCode::from_u16(outcome.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Http => nearest(outcome),
        }
    }

    /// Returns the HTTP status of a reply in full that is malformed.
    pub(super) fn malformed_reply(self) -> StatusCode {
        match self {
            Self::Scf => StatusCode::FORBIDDEN,
            Self::Http => StatusCode::BAD_GATEWAY,
        }
    }
}

fn nearest(outcome: Outcome) -> StatusCode {
    use Outcome::*;
    match outcome {
        Ok => StatusCode::OK,
        InvalidParameterValue => StatusCode::BAD_REQUEST,
        InvalidCredentials => StatusCode::UNAUTHORIZED,
        UnauthorizedOperation => StatusCode::FORBIDDEN,
        FunctionNotFound | QualifierNotFound => StatusCode::NOT_FOUND,
        RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        UserCodeException | InternalError | RequestCanceled => StatusCode::INTERNAL_SERVER_ERROR,
        ContainerStateExited | ResponseTooLarge | MemoryLimitReached | HandlerNotFound
        | UserProcessExit | UserCodeError | ContainerInitError | PortBindingFailed => {
            StatusCode::BAD_GATEWAY
        }
        ResourceLimit | ResourceLimitReached | InsufficientResources | FunctionStatusError => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        TimeLimitReached | InitContainerTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

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
