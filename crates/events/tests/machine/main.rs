//! The state machine of events: every replica that applies a log has the same tables, and they are what a simple model says.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod history;
mod model;
mod random;
mod replicas;
