//! Records with their revision, and changes of functions.

use std::sync::Arc;

use model::{Function, FunctionKey};

use crate::kv::Revision;

/// A record and its revision, which the next change must name (compare-and-swap).
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<T> {
    /// The record.
    pub value: T,
    /// Revision of the last write.
    pub revision: Revision,
}

/// A creation, update or deletion of a function.
#[derive(Clone, Debug)]
pub struct FunctionChange {
    /// The function.
    pub key: FunctionKey,
    /// Current record; `None` if it was deleted.
    pub now: Option<Arc<Stored<Function>>>,
}
