//! What a client of the object server relies on, over a real socket.

mod append;
mod blobs;
mod objects;
mod private;
mod world;
