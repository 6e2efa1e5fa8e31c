//! Failures of invocations, and SCF's error documents for them.

use model::{RequestId, StatusCode};
use serde::{Deserialize, Serialize};

/// Most characters of a summary.
const SUMMARY: usize = 500;

/// A failure, before it is bound to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// SCF's status code.
    pub status: StatusCode,
    /// Message for people.
    pub message: String,
    /// Stack trace of the user's code, for an exception.
    pub stack: Option<String>,
}

impl Failure {
    /// A failure without a stack.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            stack: None,
        }
    }

    /// Returns a one-line summary.
    pub fn summary(&self) -> String {
        let stack = self.stack.as_deref().unwrap_or_default();
        let last = stack.lines().rev().find(|line| !line.trim().is_empty());
        let cause = last.map(|line| format!(": {}", line.trim()));
        let mut text = format!(
            "{}, {}{}",
            self.status.as_u16(),
            self.message,
            cause.unwrap_or_default()
        );
        if let Some((cut, _)) = text.char_indices().nth(SUMMARY) {
            text.truncate(cut);
        }
        text
    }

    /// Returns the error document for `request`, as in SCF's RetMsg.
    pub fn document(&self, request: RequestId) -> Vec<u8> {
        failure_document(self.status, &self.message, self.stack.as_deref(), request)
    }
}

/// A failure as a runtime shim reports it. A guest wrote it, so any part may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reported {
    #[serde(rename = "errorMessage")]
    message: String,
    #[serde(rename = "stackTrace")]
    stack: Option<String>,
}

impl Reported {
    pub(crate) fn into_failure(self, status: StatusCode) -> Failure {
        Failure {
            status,
            message: self.message,
            stack: self.stack,
        }
    }
}

/// Returns SCF's error document: `errorCode`, `errorMessage`, `requestId`, `stackTrace` if there is one, and
/// `statusCode`.
pub fn failure_document(
    status: StatusCode,
    message: &str,
    stack: Option<&str>,
    request: RequestId,
) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        error_code: i32,
        error_message: &'a str,
        request_id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        stack_trace: Option<&'a str>,
        status_code: u16,
    }
    let document = Document {
        error_code: -1,
        error_message: message,
        request_id: request.to_string(),
        stack_trace: stack,
        status_code: status.as_u16(),
    };
    serde_json::to_vec(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_document_matches_scf() {
        let request = RequestId::from_bytes([0; 16]);
        let document = Failure::new(
            StatusCode::TimeLimitReached,
            "Invoking task timed out after 3 seconds",
        )
        .document(request);
        assert_eq!(
            String::from_utf8_lossy(&document),
            "{\"errorCode\":-1,\"errorMessage\":\"Invoking task timed out after 3 seconds\",\
             \"requestId\":\"00000000-0000-0000-0000-000000000000\",\"statusCode\":433}"
        );
    }
}
