//! A NATS server that virga configures, starts and looks after.
//!
//! Owns the server's configuration file and its process. Never knows the stored data.
#![forbid(unsafe_code)]

mod configuration;
mod process;

pub use configuration::{Cluster, Configuration, InvalidConfiguration, Tls};
pub use process::{NatsServer, StartError, State};
