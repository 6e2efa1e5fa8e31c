//! The statuses and failure reports of frames from a guest. The shims in `runtimes/` write the same numbers and fields.

use model::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

/// The status of a frame from a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum GuestStatus {
    /// The handler is loaded, or has returned.
    Ok = 200,
    /// The program could not be started.
    NotStarted = 405,
    /// The response exceeds the size limit.
    TooLarge = 407,
    /// The handler or its module raised an exception.
    Exception = 430,
    /// The handler's file or function does not exist.
    HandlerMissing = 437,
    /// The code cannot be loaded.
    CodeError = 443,
}

impl GuestStatus {
    /// Returns the number in a frame.
    pub(crate) fn number(self) -> u16 {
        self as u16
    }

    /// Returns whether a number is that of a success.
    pub(crate) fn is_ok(number: u16) -> bool {
        number == Self::Ok.number()
    }

    /// Returns the kind of a failed run. A guest wrote the number; any that is not expected counts as an exception.
    pub(crate) fn run_failure(number: u16) -> FailureKind {
        if number == Self::TooLarge.number() {
            FailureKind::ResponseTooLarge
        } else {
            FailureKind::HandlerError
        }
    }

    /// Returns the kind of a failed load, as [`Self::run_failure`] does for a run.
    pub(crate) fn load_failure(number: u16) -> FailureKind {
        [
            (Self::NotStarted, FailureKind::ProgramNotStarted),
            (Self::HandlerMissing, FailureKind::HandlerMissing),
            (Self::CodeError, FailureKind::CodeNotLoaded),
        ]
        .into_iter()
        .find(|(status, _)| status.number() == number)
        .map_or(FailureKind::HandlerError, |(_, kind)| kind)
    }
}

/// A failure as a guest reports it. Any part may be missing.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct GuestFailure {
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stack: Option<String>,
}

impl GuestFailure {
    /// A report without a stack.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            stack: None,
        }
    }

    pub(crate) fn into_failure(self, kind: FailureKind) -> Failure {
        Failure {
            kind,
            message: self.message,
            stack: self.stack,
        }
    }

    /// Returns the report as the body of a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
