//! What a client of the object server relies on, over a real socket.

mod objects;
mod world;
