//! A single invocation of a function: its origin, status and outcome.

use crate::TriggerKind;

/// What caused an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvocationOrigin {
    /// A call of the API.
    Api,
    /// A request to a function URL.
    Url,
    /// A request to a custom domain.
    Domain,
    /// A request to the API gateway.
    ApiGateway,
    /// An event of a trigger.
    Trigger(TriggerKind),
    /// A dead letter of another function.
    DeadLetter,
}

impl InvocationOrigin {
    /// Returns its name in a request's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Url => "url",
            Self::Domain => "domain",
            Self::ApiGateway => "apigw",
            Self::Trigger(kind) => kind.as_str(),
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// The result status of an invocation. The numbers are SCF's function status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum StatusCode {
    /// The handler returned.
    Ok = 200,
    /// The event is not JSON.
    InvalidParameterValue = 400,
    /// The signature is missing or identifies no caller.
    InvalidCredentials = 401,
    /// The function's program failed to start, or exited before it was ready.
    ContainerStateExited = 405,
    /// The event exceeds the size limit.
    RequestTooLarge = 406,
    /// The response exceeds the size limit, or is not JSON.
    ResponseTooLarge = 407,
    /// Throttled: no instance was free in time, and the account's scale-out rate was used up.
    ResourceLimit = 429,
    /// The handler or its module raised an exception.
    UserCodeException = 430,
    /// Throttled: no instance was free in time, and the concurrency quota was used up.
    ResourceLimitReached = 432,
    /// The handler exceeded its timeout.
    TimeLimitReached = 433,
    /// The instance exceeded its memory limit.
    MemoryLimitReached = 434,
    /// The function does not exist.
    FunctionNotFound = 435,
    /// The handler's file or function does not exist.
    HandlerNotFound = 437,
    /// The function is not in a state to be invoked.
    FunctionStatusError = 438,
    /// The process exited during a request.
    UserProcessExit = 439,
    /// The caller is not authorized.
    UnauthorizedOperation = 441,
    /// The function has no such version or alias.
    QualifierNotFound = 442,
    /// The code failed to load, for example because of a syntax error.
    UserCodeError = 443,
    /// The instance failed to start.
    ContainerInitError = 445,
    /// A web function's server did not listen within InitTimeout.
    PortBindingFailed = 446,
    /// The node has no memory left for another instance.
    InsufficientResources = 449,
    /// The instance was not ready within InitTimeout.
    InitContainerTimeout = 450,
    /// The caller closed the connection.
    RequestCanceled = 499,
    /// The platform failed.
    InternalError = 500,
}

impl StatusCode {
    /// Returns the numeric code.
    pub fn as_u16(self) -> u16 {
        self as u16
    }

    /// Returns whether the function caused the failure, rather than the platform or the caller.
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

/// Resources used by an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time from delivering the event to receiving the response (µs).
    pub duration_us: u64,
    /// Peak memory of the instance (bytes).
    pub memory_peak: u64,
}

/// The outcome of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Result status.
    pub status: StatusCode,
    /// JSON response; SCF's error document if the invocation failed.
    pub answer: Vec<u8>,
    /// Log output of the function, truncated at the limit.
    pub log: Vec<u8>,
    /// Resources used.
    pub usage: Usage,
}
