//! What is deployed: every function and namespace, in memory whole and durable in a key-value store.
//!
//! Reads never leave memory, so an invocation waits for no disk. Writes go to the store first, each naming
//! the revision that it replaces, and come back through the store's watch; a write is answered once the view
//! shows it. With the store down, functions go on running and only changes fail.
#![forbid(unsafe_code)]

mod access;
mod format;
mod ids;
pub mod kv;
mod master;
mod table;
mod view;

pub use ids::{ID_MAX, Issued, Used, WantedAccount};
pub use master::{MasterKey, MasterKeys};
pub use table::{Catalog, Change, Error, Owned, Stored, Taken};
