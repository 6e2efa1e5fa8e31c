//! Accounting of connections and held bytes, and the choice of connections to evict. Pure: no clock, no I/O.
//!
//! Bytes of a connection count for its source address or, once one of its requests was verified, for the caller's
//! account. Both have budgets of their own, so that unverified callers cannot use up the budget of accounts. When a
//! budget is exceeded, the largest connections of the largest holder are shed. A source that was verified recently
//! counts for an eighth of what it holds.

mod admission;
mod budget;
mod state;

pub(crate) use self::admission::BASE_COST;
pub use self::state::LedgerLimits;
pub(crate) use self::state::{Active, Activity, ConnectionId, Ledger, Medium};

#[cfg(test)]
mod tests;
