//! The reasons why a caller is refused. The gateways map them to their APIs' codes.

use std::net::IpAddr;

use model::RoleName;
use thiserror::Error;

use crate::token::TokenFault;

/// The reason why a request is not authenticated. `S` is the gateway's reason to refuse a signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError<S> {
    /// The source address is blocked for a while.
    #[error(
        "too many requests of this address could not be authenticated; check the credentials and try again in a while"
    )]
    Blocked,
    /// There is no such key.
    #[error(
        "the secret id is not known here; virga's first is in credentials.json in its data directory, and virga key list \
         shows all"
    )]
    UnknownKey,
    /// The key is disabled.
    #[error("the key is disabled; virga key enable turns it on again")]
    DisabledKey,
    /// Temporary credentials without their token.
    #[error("temporary credentials need a token")]
    TokenMissing,
    /// A permanent key with a token.
    #[error("a permanent secret id takes no token")]
    TokenUnexpected,
    /// The token is invalid or has expired.
    #[error(transparent)]
    Token(TokenFault),
    /// The role of the temporary credentials was deleted.
    #[error("the role {0} was deleted")]
    RoleDeleted(RoleName),
    /// The key has used the nonce before.
    #[error("the key has used the nonce before; sign each request with a new one")]
    NonceUsed,
    /// The key has no nonces left.
    #[error(
        "the key has used the maximum number of nonces within the signature window; try again in some minutes"
    )]
    NonceLimit,
    /// The signature is refused.
    #[error("{0}")]
    Signature(S),
}

impl<S> AuthError<S> {
    /// Returns whether the caller is throttled: it may try again later with the same credentials.
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Blocked | Self::NonceLimit)
    }
}

/// A policy does not allow an action on a resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "you are not authorized to perform operation ({service}:{action})\nresource ({resource}) has no permission: {why}"
)]
pub struct Denied {
    /// The service of the action.
    pub service: String,
    /// The action.
    pub action: String,
    /// The resource's name.
    pub resource: String,
    /// The reason.
    pub why: &'static str,
}

/// A root key crossed the network in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "root keys are not taken over plain HTTP from other hosts, as {0}; use TLS (tls_listen), a key with a policy, or a tunnel to \
     the loopback. Where a proxy on another host ends TLS, start virga with --root-http all"
)]
pub struct PlainRootKey(pub IpAddr);

/// The account's rate limit of an action is exhausted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{action}: up to {per_second} requests a second are allowed to an account; try again in a moment"
)]
pub struct RateLimited {
    /// The action.
    pub action: String,
    /// The limit.
    pub per_second: u32,
}

/// The reason why a signed HTTP request may not call a function.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAdmitted<S> {
    /// The caller is not authenticated.
    #[error(transparent)]
    Auth(#[from] AuthError<S>),
    /// The caller's account is not the function's.
    #[error("the function belongs to another account")]
    OtherAccount,
    /// A root key crossed the network in plain text.
    #[error(transparent)]
    PlainRootKey(#[from] PlainRootKey),
    /// The policy does not allow the call.
    #[error(transparent)]
    Denied(#[from] Denied),
}
