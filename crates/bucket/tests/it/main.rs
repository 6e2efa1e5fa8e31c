//! Behaviour of the object server over a real socket.
#![expect(clippy::expect_used, reason = "a test may end")]

mod append;
mod blobs;
mod objects;
mod outbox;
mod private;
mod world;
