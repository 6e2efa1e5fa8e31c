//! What a client of the object server relies on, over a real socket.
#![expect(clippy::expect_used, reason = "a test may end")]

mod append;
mod blobs;
mod objects;
mod outbox;
mod private;
mod world;
