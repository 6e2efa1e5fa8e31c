//! Durable state as deterministic state machines.
//!
//! A [`Machine`] owns tables of one SQLite database, and commands are the only way to change them. A [`Replica`] takes commands,
//! gathers what waits into a record, applies the record in one transaction, and answers each command with its output once that is durable.
//!
//! There are two ways to run the same machine:
//!
//! - **Embedded** ([`Replica::embedded`]): one process owns the database. The transaction is the record; there is no second log. One sync
//!   serves all commands that waited.
//! - **On a log** ([`Replica::on_log`]): a record is one append to a [`Log`], which is durable, ordered and shared. Every replica applies all
//!   records in the log's order, so all databases have equal contents; the replica that submitted a record answers its commands. The
//!   database is a cache of the log and can be rebuilt from a [snapshot](mod@snapshot) and the log's rest.
//!
//! An append whose answer is lost is repeated under the same number until it is answered, and every replica drops the duplicates
//! ([`window`]), so a record is applied once however often and however late it arrives.
//!
//! This crate never knows the contents of a command.
#![forbid(unsafe_code)]

mod appender;
pub mod backup;
mod blobs;
mod checkpoint;
mod contents;
mod control;
mod database;
mod embedded;
mod follower;
mod log;
mod machine;
pub mod nats;
mod record;
mod replica;
mod sealed;
pub mod snapshot;
mod status;
mod submission;
mod time;
mod vault;
pub mod window;

pub use blobs::{BlobError, Blobs, ObjectBlobs};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use contents::digest;
pub use control::Control;
pub use database::{Database, DatabaseError, begin_at, explain};
pub use log::{AppendError, Entry, Log, LogError, LogIdentity, Position, Usage};
pub use machine::{Apply, Clock, Durability, Machine};
pub use record::{Contents, Header, MAX_RECORD, Record, RecordError, WriterId};
pub use replica::{Parts, Replica};
pub use sealed::SealedLog;
pub use status::Status;
pub use submission::{Limits, SubmitError, Submitted};
pub use time::Time;
pub use vault::{Part, StoredFile, Vault, VaultError};
