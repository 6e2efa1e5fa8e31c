//! Who asks for an operation on accounts, keys and roles.

use model::AccountId;

/// The caller of an operation on accounts, keys or roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its account.
    pub account: AccountId,
    /// Whether it may manage all accounts.
    pub operator: bool,
}
