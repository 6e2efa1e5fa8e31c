//! An object server that speaks S3's API and the dialect of COS, and tells of each change of an object.
//!
//! It knows buckets, objects and who may touch them. What hears of a change, and what it does then, is its user's.
#![forbid(unsafe_code)]

mod authorizer;
mod cos;
mod error;
mod error_response;
mod form;
mod host;
mod names;
mod notice;
mod remote;
#[cfg(test)]
mod rng;
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
pub use s3::{Dialect, RequestContext};
pub use serve::{BucketServer, Client};
pub use store::{Backend, ChangeOrigin, Settings, Store};
