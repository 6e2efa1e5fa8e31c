//! Refusals of requests before a function runs.

use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use engine::invoke::IngestError;
use model::{Failure, FailureKind, RequestId};

use super::failure::document;
use super::reply;

/// The refusal of a request, or of its reply.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    reason: Reason,
    /// Whether the message describes the function, which anonymous callers must not see.
    private: bool,
}

#[derive(Debug)]
enum Reason {
    /// SCF refuses, with its document.
    Scf(Failure),
    /// The API gateway refuses, with its message.
    ApiGateway(String),
}

/// The refusal of a request that the engine rejects.
impl From<IngestError> for Refused {
    fn from(error: IngestError) -> Self {
        let (status, kind) = match &error {
            IngestError::NoFunction(_) | IngestError::NoNamespace(_) => {
                (StatusCode::NOT_FOUND, FailureKind::FunctionMissing)
            }
            IngestError::NoQualifier { .. } => (StatusCode::NOT_FOUND, FailureKind::VersionMissing),
            IngestError::State { .. } => (
                http(FailureKind::FunctionNotReady),
                FailureKind::FunctionNotReady,
            ),
            IngestError::TooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, FailureKind::RequestTooLarge)
            }
            IngestError::Draining => (StatusCode::SERVICE_UNAVAILABLE, FailureKind::PlatformFault),
            IngestError::Open { .. }
            | IngestError::Invalid(_)
            | IngestError::Queue(_)
            | IngestError::Web(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                FailureKind::PlatformFault,
            ),
        };
        Self {
            private: true,
            ..Self::new(status, kind, error.to_string())
        }
    }
}

impl Refused {
    /// Creates a refusal with SCF's document.
    pub(super) fn new(status: StatusCode, kind: FailureKind, message: String) -> Self {
        Self {
            status,
            reason: Reason::Scf(Failure::new(kind, message)),
            private: false,
        }
    }

    /// Creates a refusal by the API gateway.
    pub(super) fn of_gateway(status: StatusCode, message: String) -> Self {
        Self {
            status,
            reason: Reason::ApiGateway(message),
            private: false,
        }
    }

    /// Returns the failure that anonymous callers must not see.
    pub(super) fn private_failure(&self) -> Option<&Failure> {
        match &self.reason {
            Reason::Scf(failure) if self.private => Some(failure),
            _ => None,
        }
    }

    /// Returns the reply, with the whole message.
    pub(super) fn reply(&self, id: RequestId) -> Response {
        let document: Bytes = match &self.reason {
            Reason::Scf(failure) => document(failure, id, false),
            Reason::ApiGateway(message) => {
                serde_json::json!({"message": message}).to_string().into()
            }
        };
        reply::json(self.status, document)
    }
}

/// Returns SCF's code as the HTTP status; most codes are in a range that HTTP leaves free.
fn http(kind: FailureKind) -> StatusCode {
    StatusCode::from_u16(kind.number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
