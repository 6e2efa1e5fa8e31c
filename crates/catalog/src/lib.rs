//! The catalog: all functions, namespaces, layers, domains and accounts, held in memory and persisted in a key-value store.
//!
//! Reads are served from memory, so an invocation never waits for a disk. Writes use optimistic concurrency: each names the
//! revision that it replaces (compare-and-swap). A write goes to the store, returns through the store's watch, and is
//! acknowledged once the in-memory view contains it. If the store is down, functions keep running and only writes fail.
#![forbid(unsafe_code)]

mod access;
mod error;
mod format;
mod ids;
mod issued;
pub mod kv;
mod master;
mod migrate;
mod stored;
mod table;
mod view;

pub use error::Error;
pub use issued::{FinalUsage, ID_MAX, IssuedIds, NewAccount};
pub use master::{MasterKey, MasterKeys};
pub use stored::{FunctionChange, Stored};
pub use table::{Catalog, OwnedResources, TriggerConflict};
