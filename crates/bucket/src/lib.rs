//! An object server that speaks S3's API and the dialect of COS, and tells of each change of an object.
//!
//! It knows buckets, objects and who may touch them. What hears of a change, and what it does then, is its user's.
#![forbid(unsafe_code)]

mod gate;
mod notice;
mod origin;

pub use gate::{Access, Gate, Key, Principal};
pub use notice::{Change, ChangeKind, Listeners, Notice};
pub use origin::{Dialect, Origin};
