//! Request and response types with the API's field names, one file per topic.
//!
//! Structures that virga stores and returns without effect are plain JSON values.

mod account;
mod concurrency;
mod domains;
mod events;
mod functions;
mod invoke;
mod layers;
mod namespaces;
mod shared;
mod tags;
mod triggers;
mod versions;
pub use account::*;
pub use concurrency::*;
pub use domains::*;
pub use events::*;
pub use functions::*;
pub use invoke::*;
pub use layers::*;
pub use namespaces::*;
pub use shared::*;
pub use tags::*;
pub use triggers::*;
pub use versions::*;

use serde::{Deserialize, Serialize};

/// A response without fields of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}
