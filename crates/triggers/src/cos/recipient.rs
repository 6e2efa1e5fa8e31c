//! The function that receives an event.

use model::{FunctionKey, Qualifier};

/// The receiver of a change's event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) function: FunctionKey,
    pub(super) qualifier: Qualifier,
}
