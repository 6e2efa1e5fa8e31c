//! A single invocation of a function: its origin.

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
