//! The HTTP status of a request that failed.

use axum::http::StatusCode;
use model::FailureKind;

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
    /// Returns the HTTP status of a failure.
    pub(super) fn status(self, kind: FailureKind) -> StatusCode {
        // HTTP has the same status.
        if kind == FailureKind::RequestTooLarge {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        match self {
            Self::Scf => {
                StatusCode::from_u16(kind.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Http => nearest(kind),
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

fn nearest(kind: FailureKind) -> StatusCode {
    use FailureKind::*;
    match kind {
        InvalidRequest => StatusCode::BAD_REQUEST,
        Unauthenticated => StatusCode::UNAUTHORIZED,
        Forbidden => StatusCode::FORBIDDEN,
        FunctionMissing | VersionMissing => StatusCode::NOT_FOUND,
        RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        HandlerError | PlatformFault | Cancelled => StatusCode::INTERNAL_SERVER_ERROR,
        ProgramNotStarted | ResponseTooLarge | OutOfMemory | HandlerMissing | Exited
        | CodeNotLoaded | NotStarted | NotListening => StatusCode::BAD_GATEWAY,
        StartRateExceeded | ConcurrencyExceeded | NodeMemoryExceeded | FunctionNotReady => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        TimedOut | InitTimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}
