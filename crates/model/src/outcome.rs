//! The outcome of an invocation: a response, or a failure of a closed list of kinds.

/// The outcome of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The JSON response, or why there is none.
    pub result: Result<Vec<u8>, Failure>,
    /// Log output of the function, truncated at the limit.
    pub log: Vec<u8>,
    /// Resources used.
    pub usage: Usage,
}

/// Resources used by an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time from delivering the event to receiving the response (µs).
    pub duration_us: u64,
    /// Peak memory of the instance (bytes).
    pub memory_peak: u64,
}

/// A failed invocation. Each API has its own document for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind, by which virga decides what follows.
    pub kind: FailureKind,
    /// Message for people.
    pub message: String,
    /// Stack trace of the user's code, for an exception.
    pub stack: Option<String>,
}

/// Most characters of a summary.
const SUMMARY: usize = 500;

impl Failure {
    /// A failure without a stack.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            stack: None,
        }
    }

    /// Returns a one-line summary.
    pub fn summary(&self) -> String {
        let stack = self.stack.as_deref().unwrap_or_default();
        let last = stack.lines().rev().find(|line| !line.trim().is_empty());
        let cause = last.map(|line| format!(": {}", line.trim()));
        let (number, message) = (self.kind.number(), &self.message);
        let mut text = format!("{number}, {message}{}", cause.unwrap_or_default());
        if let Some((cut, _)) = text.char_indices().nth(SUMMARY) {
            text.truncate(cut);
        }
        text
    }
}

/// The kind of a failure. Retries, metrics and usage depend on it alone.
///
/// The numbers are the stored form: in the log store, in the history of events and in the label of a metric. A number never
/// changes its meaning. They were chosen as SCF's function status codes, so SCF's front ends need no table of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum FailureKind {
    /// The event or the request is malformed.
    InvalidRequest = 400,
    /// The signature is missing or identifies no caller.
    Unauthenticated = 401,
    /// The function's program failed to start, or exited before it was ready.
    ProgramNotStarted = 405,
    /// The event exceeds the size limit.
    RequestTooLarge = 406,
    /// The response exceeds the size limit, or is not JSON.
    ResponseTooLarge = 407,
    /// Throttled: no instance was free in time, and the account's scale-out rate was used up.
    StartRateExceeded = 429,
    /// The handler or its module raised an exception.
    HandlerError = 430,
    /// Throttled: no instance was free in time, and the concurrency quota was used up.
    ConcurrencyExceeded = 432,
    /// The handler exceeded its timeout.
    TimedOut = 433,
    /// The instance exceeded its memory limit.
    OutOfMemory = 434,
    /// The function does not exist.
    FunctionMissing = 435,
    /// The handler's file or function does not exist.
    HandlerMissing = 437,
    /// The function is not in a state to be invoked.
    FunctionNotReady = 438,
    /// The process exited during a request.
    Exited = 439,
    /// The caller is not authorized.
    Forbidden = 441,
    /// The function has no such version or alias.
    VersionMissing = 442,
    /// The code failed to load, for example because of a syntax error.
    CodeNotLoaded = 443,
    /// The platform failed to start an instance.
    NotStarted = 445,
    /// A web function's server did not listen in time.
    NotListening = 446,
    /// Throttled: the node has no memory left for another instance.
    NodeMemoryExceeded = 449,
    /// The instance was not ready in time.
    InitTimedOut = 450,
    /// The caller closed the connection, or the event was cancelled.
    Cancelled = 499,
    /// The platform failed.
    PlatformFault = 500,
}

/// The party that caused a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller: the same request fails again.
    Caller,
    /// The function.
    Function,
    /// The platform, or its limits.
    Platform,
}

impl FailureKind {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::ProgramNotStarted,
        Self::RequestTooLarge,
        Self::ResponseTooLarge,
        Self::StartRateExceeded,
        Self::HandlerError,
        Self::ConcurrencyExceeded,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::FunctionMissing,
        Self::HandlerMissing,
        Self::FunctionNotReady,
        Self::Exited,
        Self::Forbidden,
        Self::VersionMissing,
        Self::CodeNotLoaded,
        Self::NotStarted,
        Self::NotListening,
        Self::NodeMemoryExceeded,
        Self::InitTimedOut,
        Self::Cancelled,
        Self::PlatformFault,
    ];

    /// Returns the stored number.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Returns the kind with a stored number.
    pub fn of_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Returns who caused such a failure.
    pub fn blame(self) -> Blame {
        match self {
            Self::InvalidRequest
            | Self::Unauthenticated
            | Self::RequestTooLarge
            | Self::FunctionMissing
            | Self::Forbidden
            | Self::VersionMissing => Blame::Caller,
            Self::ProgramNotStarted
            | Self::ResponseTooLarge
            | Self::HandlerError
            | Self::TimedOut
            | Self::OutOfMemory
            | Self::HandlerMissing
            | Self::Exited
            | Self::CodeNotLoaded
            | Self::NotListening
            | Self::InitTimedOut => Blame::Function,
            Self::StartRateExceeded
            | Self::ConcurrencyExceeded
            | Self::FunctionNotReady
            | Self::NotStarted
            | Self::NodeMemoryExceeded
            | Self::Cancelled
            | Self::PlatformFault => Blame::Platform,
        }
    }

    /// Returns whether no instance was available, so that the request may succeed later.
    pub fn is_throttled(self) -> bool {
        matches!(
            self,
            Self::StartRateExceeded | Self::ConcurrencyExceeded | Self::NodeMemoryExceeded
        )
    }
}

/// The stored number of a success.
const SUCCESS: u16 = 200;

/// Returns the stored number of an outcome: that of the failure's kind, or 200 for a success.
pub fn outcome_number(failure: Option<FailureKind>) -> u16 {
    failure.map_or(SUCCESS, FailureKind::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_find_their_kinds() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::of_number(kind.number()), Some(kind));
        }
        assert_eq!(FailureKind::of_number(outcome_number(None)), None);
        let mut numbers = FailureKind::ALL.map(FailureKind::number);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn throttled_requests_are_nobody_elses_fault() {
        for kind in FailureKind::ALL
            .into_iter()
            .filter(|kind| kind.is_throttled())
        {
            assert_eq!(kind.blame(), Blame::Platform, "{kind:?}");
        }
    }

    #[test]
    fn summary_ends_with_the_last_line_of_the_stack() {
        let failure = Failure {
            stack: Some("Traceback\n  at 1\nKeyError: 'a'\n\n".into()),
            ..Failure::new(FailureKind::HandlerError, "user code exception caught")
        };
        let summary = "430, user code exception caught: KeyError: 'a'";
        assert_eq!(failure.summary(), summary);
        let long = Failure::new(FailureKind::Exited, "é".repeat(1000));
        assert_eq!(long.summary().chars().count(), SUMMARY);
    }
}
