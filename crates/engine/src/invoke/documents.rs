//! The documents about failures, whose form is the API's.

use events::QueuedEvent;
use model::{AccountId, Failure, RequestId};

/// The documents in which owners of functions see failures: in the log, in the history of events, and at dead-letter
/// targets. The front end of an API implements it, so that nothing else knows their form.
pub trait Documents: std::fmt::Debug + Send + Sync {
    /// Returns the document of a failed request.
    fn failure(&self, failure: &Failure, request: RequestId) -> Vec<u8>;

    /// Returns the message for a dead-letter target. `uin` is the account's owner.
    fn dead_letter(&self, account: AccountId, uin: &str, event: &QueuedEvent) -> String;
}
