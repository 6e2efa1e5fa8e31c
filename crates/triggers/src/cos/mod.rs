//! Object triggers: events for the changes of objects in virga's own buckets.

mod document;
mod matcher;
mod notice;
mod parked;
mod recipient;
mod relay;

pub use self::matcher::ObjectTriggers;
pub(super) use self::relay::Relay;
