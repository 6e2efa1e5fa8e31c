//! One suite over every way to run a machine.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod backups;
mod bank;
mod embedded;
mod faults;
mod limits;
mod nats;
mod sealed;
mod secured;
mod snapshots;
mod store;
mod trimmed;
mod world;
