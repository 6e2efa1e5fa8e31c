//! An object server that speaks S3's API and the dialect of COS, and tells of each change of an object.
//!
//! It knows buckets, objects and who may touch them. What hears of a change, and what it does then, is its user's.
#![forbid(unsafe_code)]

#[cfg(test)]
mod chance;
mod cos;
mod error;
mod form;
mod gate;
mod host;
mod names;
mod notice;
mod refusal;
mod remote;
pub mod s3;
mod serve;
mod signed;
pub mod store;

pub use error::StoreError;
pub use gate::{Access, AnyWay, Gate, Holding, Key, Principal, Way};
pub use host::Hosts;
pub use names::{BucketName, InvalidName, ObjectKey, VersionId};
pub use notice::{Change, ChangeKind, Listeners, Notice};
pub use remote::Remote;
pub use s3::{Call, Dialect};
pub use serve::{Peer, Serve};
pub use store::{Backend, Origin, Settings, Store};
