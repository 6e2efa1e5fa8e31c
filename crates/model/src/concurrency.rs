//! What is set aside of the memory that an account's instances may have together.

use serde::{Deserialize, Serialize};

use crate::Function;

/// What the catalog keeps of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Memory that all of its instances may have together, MB; none where it is what the operator allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_mb: Option<u32>,
}

impl Function {
    /// Memory of its account that no other function can have, MB.
    pub fn set_aside_mb(&self) -> u32 {
        self.reserved_mb.unwrap_or(0)
    }
}
