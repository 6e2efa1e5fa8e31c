//! The owner of the installation, and the rules for callers.

use model::{Account, Secret};

use crate::action::KnownActions;
use crate::limits::RateLimits;

/// The owner of the installation: the configured account, and the key pair of the data directory.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The first account.
    pub account: Account,
    /// The id of its key.
    pub key_id: String,
    /// The secret of its key.
    pub secret: Secret,
}

/// The limits and requirements for callers.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// The region in the names of resources.
    pub region: String,
    /// The actions that policies and rate limits can name.
    pub actions: KnownActions,
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
    /// Whether every permanent key must sign its action, not only keys with `sign_action`.
    pub sign_action: bool,
    /// Whether root keys are accepted over plain HTTP from other hosts.
    pub root_from_anywhere: bool,
}
