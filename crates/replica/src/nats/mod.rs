//! Logs on NATS JetStream.
//!
//! A handful of [streams](Layout) holds all logs, each log under a subject of its own. A record is durable once JetStream acknowledges it,
//! provided that the servers sync always and that the streams have three replicas, which [`settings`] checks. Reads of a stream are not
//! linearizable: a leader that has lost its quorum still answers for some seconds. So a read that shows less than the applied records
//! proves nothing.
//!
//! virga's user has an account of its own at the servers, so nobody else can write, delete or purge in its streams. Single messages
//! cannot be deleted at all. Purging is left to virga, which trims.

mod blobs;
mod connection;
mod layout;
mod log;
pub mod settings;
mod streams;

pub use blobs::NatsBlobs;
pub use connection::{ConnectError, Connection, Tls, connect};
pub use layout::{Layout, SHARDS};
pub use log::NatsLog;
pub use streams::{NatsStreams, StreamError};
