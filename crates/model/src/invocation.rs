//! One run of a function: what goes in and what comes out.

use crate::{FunctionKey, Qualifier, RequestId};

/// What a handler may know of its invocation, beside the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvocationContext {
    /// This request.
    pub request: RequestId,
    /// The function.
    pub function: FunctionKey,
    /// The version that runs: `$LATEST` or a number, never an alias.
    pub version: Qualifier,
}

/// How an invocation ended. The numbers are SCF's function status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum StatusCode {
    /// The handler returned.
    Ok = 200,
    /// The event is not JSON.
    InvalidParameterValue = 400,
    /// Nobody signed, or it cannot be said who.
    InvalidCredentials = 401,
    /// The function's own program could not be started, or ended before it was ready.
    ContainerStateExited = 405,
    /// The event is over the limit.
    RequestTooLarge = 406,
    /// The answer is over the limit, or is not JSON.
    ResponseTooLarge = 407,
    /// No instance was free in time, and the account had started as many as it may in this time.
    ResourceLimit = 429,
    /// The handler, or its module, raised an exception.
    UserCodeException = 430,
    /// No instance was free in time and none could be added.
    ResourceLimitReached = 432,
    /// The handler ran over its timeout.
    TimeLimitReached = 433,
    /// The instance ran over its memory.
    MemoryLimitReached = 434,
    /// The function does not exist.
    FunctionNotFound = 435,
    /// The handler's file or function does not exist.
    HandlerNotFound = 437,
    /// The function is not in a state to be invoked.
    FunctionStatusError = 438,
    /// The process ended while a request ran.
    UserProcessExit = 439,
    /// Who calls may not.
    UnauthorizedOperation = 441,
    /// The function has no such version or alias.
    QualifierNotFound = 442,
    /// The code could not be loaded, as with a syntax error.
    UserCodeError = 443,
    /// The instance could not be started.
    ContainerInitError = 445,
    /// A web function's server did not listen within InitTimeout.
    PortBindingFailed = 446,
    /// The node has no memory left for another instance.
    InsufficientResources = 449,
    /// The instance was not ready within InitTimeout.
    InitContainerTimeout = 450,
    /// The caller went away.
    RequestCanceled = 499,
    /// A fault of the platform.
    InternalError = 500,
}

impl StatusCode {
    /// The number.
    pub fn as_u16(self) -> u16 {
        self as u16
    }

    /// Whether the fault is the function's own, as against the platform's or the caller's.
    pub fn is_user_fault(self) -> bool {
        use StatusCode::*;
        matches!(
            self,
            ContainerStateExited
                | ResponseTooLarge
                | UserCodeException
                | TimeLimitReached
                | MemoryLimitReached
                | HandlerNotFound
                | UserProcessExit
                | UserCodeError
                | PortBindingFailed
                | InitContainerTimeout
        )
    }
}

/// What an invocation used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// From handing the event over to having the answer, microseconds.
    pub duration_us: u64,
    /// The instance's peak memory, bytes.
    pub memory_peak: u64,
}

/// A finished invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub status: StatusCode,
    /// The answer as JSON; for a failure, SCF's error document.
    pub answer: Vec<u8>,
    /// What the function printed, in order, cut at the limit.
    pub log: Vec<u8>,
    /// What it used.
    pub usage: Usage,
}
