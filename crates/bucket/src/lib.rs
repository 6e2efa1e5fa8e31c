//! An object server with the APIs of S3 and COS. It emits a notice for each change of an object.
//!
//! This crate owns buckets, objects and their access rules. The caller decides who receives a notice and what follows
//! from it.
#![forbid(unsafe_code)]

mod authorizer;
mod core;
mod cos;
mod error;
mod error_response;
mod form;
mod host;
mod names;
mod notice;
mod percent;
mod remote;
mod request_head;
pub mod s3;
mod serve;
mod signed;
pub mod store;

pub use authorizer::{
    AccessRequest, Authorizer, ConnectionPolicy, Key, MemoryReservation, Principal, Unrestricted,
};
pub use error::StoreError;
pub use host::Hosts;
pub use names::{BucketName, InvalidName, ObjectKey, VersionId};
pub use notice::{Change, ChangeKind, ChangeObserver, Notice};
pub use remote::Remote;
pub use request_head::Client;
pub use s3::{Dialect, RequestContext};
pub use serve::BucketServer;
pub use store::{Backend, ChangeOrigin, Settings, Store};
