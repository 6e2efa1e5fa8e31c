//! The owner of the installation, and the rules for callers.

use model::Account;
use operator::credentials::Credentials;

use crate::limits::RateLimits;

/// The owner of the installation: the configured account, and the key pair of the data directory.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The first account.
    pub account: Account,
    /// Its key pair.
    pub credentials: Credentials,
}

/// The limits and requirements for callers.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// The region in the names of resources.
    pub region: String,
    /// The limits on requests per second.
    pub rates: RateLimits,
    /// Failed authentications per source address and second before the address is blocked; 0 = unlimited.
    pub failures: u32,
    /// The requirements for signatures.
    pub signatures: Signatures,
}

/// Requirements for signatures.
#[derive(Clone, Copy, Debug)]
pub struct Signatures {
    /// Largest difference between a request's timestamp and the clock, in seconds.
    pub window: i64,
    /// Whether signatures of version 1 are accepted.
    pub version_1: bool,
    /// Whether every permanent key must sign its action, not only keys with `sign_action`.
    pub sign_action: bool,
    /// Whether root keys are accepted over plain HTTP from other hosts.
    pub root_from_anywhere: bool,
}
