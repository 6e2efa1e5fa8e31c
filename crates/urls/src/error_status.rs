//! The HTTP status of a request that failed.

use axum::http::StatusCode;
use model::StatusCode as Outcome;

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
