//! The documents about failed invocations.
//!
//! Source: SCF's pages on error codes and on dead letter queues.

use serde::{Deserialize, Serialize};

/// SCF's function status code of an exception in the user's code.
pub const USER_CODE_EXCEPTION: u16 = 430;

/// The document of a failed invocation: `errorCode`, `errorMessage`, `requestId`, `stackTrace` if there is one, and
/// `statusCode`.
#[derive(Clone, Copy, Debug)]
pub struct FailureDocument<'a> {
    /// SCF's function status code.
    pub status: u16,
    /// Message for people.
    pub message: &'a str,
    /// Stack trace of the user's code, for an exception.
    pub stack: Option<&'a str>,
    /// The request id.
    pub request: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    error_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_trace: Option<&'a str>,
    status_code: u16,
}

impl FailureDocument<'_> {
    /// Returns the whole document as JSON.
    pub fn encode(self) -> Vec<u8> {
        self.encode_fields(Some(self.message), self.stack)
    }

    /// Returns the document without message and stack, for callers who must not see them.
    pub fn encode_redacted(self) -> Vec<u8> {
        self.encode_fields(None, None)
    }

    fn encode_fields(self, message: Option<&str>, stack: Option<&str>) -> Vec<u8> {
        let fields = Fields {
            error_code: -1,
            error_message: message,
            request_id: self.request,
            stack_trace: stack,
            status_code: self.status,
        };
        serde_json::to_vec(&fields).unwrap_or_default()
    }
}

/// Returns a dead letter's `ErrorCode` and `ErrorMessage` for an event's last status and message: -1 and the stack trace for an
/// exception, otherwise the status and the reason. The message may be a [`FailureDocument`] or any text.
pub fn dead_letter_error(status: u16, message: &str) -> (i32, String) {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Document {
        error_message: Option<String>,
        stack_trace: Option<String>,
    }
    let code = match status {
        USER_CODE_EXCEPTION => -1,
        status => status.into(),
    };
    let document: Document = serde_json::from_str(message).unwrap_or_default();
    let reason = document.stack_trace.or(document.error_message);
    (code, reason.unwrap_or_else(|| message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMED_OUT: FailureDocument<'_> = FailureDocument {
        status: 433,
        message: "Invoking task timed out after 3 seconds",
        stack: None,
        request: "00000000-0000-0000-0000-000000000000",
    };

    fn text(document: Vec<u8>) -> String {
        String::from_utf8(document).expect("UTF-8")
    }

    #[test]
    fn timeout_document_matches_scf() {
        assert_eq!(
            text(TIMED_OUT.encode()),
            "{\"errorCode\":-1,\"errorMessage\":\"Invoking task timed out after 3 seconds\",\
             \"requestId\":\"00000000-0000-0000-0000-000000000000\",\"statusCode\":433}"
        );
    }

    #[test]
    fn redacted_document_has_the_code_alone() {
        assert_eq!(
            text(TIMED_OUT.encode_redacted()),
            "{\"errorCode\":-1,\"requestId\":\"00000000-0000-0000-0000-000000000000\",\"statusCode\":433}"
        );
    }

    #[test]
    fn dead_letter_of_an_exception_has_its_stack() {
        let raised = FailureDocument {
            status: USER_CODE_EXCEPTION,
            stack: Some("Traceback: here"),
            ..TIMED_OUT
        };
        for (status, message, code, reason) in [
            (430, text(raised.encode()), -1, "Traceback: here"),
            (433, text(TIMED_OUT.encode()), 433, TIMED_OUT.message),
            (432, "waited too long".to_owned(), 432, "waited too long"),
            (500, "[1]".to_owned(), 500, "[1]"),
        ] {
            let expected = (code, reason.to_owned());
            assert_eq!(dead_letter_error(status, &message), expected);
        }
    }
}
