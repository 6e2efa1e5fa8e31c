//! The fields of requests and answers, under the names that the API gives them: a file for each theme.
//!
//! Sub-documents that virga keeps and shows again without acting on them are plain JSON values.

mod account;
mod concurrency;
mod domains;
mod events;
mod functions;
mod invoke;
mod layers;
mod namespaces;
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
pub use tags::*;
pub use triggers::*;
pub use versions::*;

use serde::{Deserialize, Serialize};

/// An answer without fields of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}
