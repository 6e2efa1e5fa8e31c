//! The real binary, asked over its public faces.
#![expect(clippy::expect_used, reason = "a test may end")]
#![expect(
    clippy::too_many_lines,
    reason = "a test tells one story from its start, or checks one table"
)]

mod access;
mod actions;
mod apart;
mod apigw;
mod bounds;
mod builds;
mod cli;
mod cloud;
mod concurrency;
mod config;
mod conflicts;
mod cos;
mod disk;
mod environment;
mod events;
mod fair;
mod forwarded;
mod hosts;
mod isolation;
mod judge;
mod large_packages;
mod layers;
mod letters;
mod lifecycle;
mod limits;
mod model;
mod names;
mod objects;
mod ownership;
mod packages;
mod prefix;
mod programs;
mod provisioned;
mod purge;
mod roles;
mod room;
mod runtime;
mod scaling;
mod secrets;
mod signed_calls;
mod signing;
mod starts;
mod status;
mod storage;
mod surroundings;
mod temporary;
mod tls;
mod tracing;
mod traffic;
mod triggers;
mod upgrade;
mod urls;
mod usage;
mod user;
mod versions;
mod web;
mod web_edges;
mod web_kept;
mod wire;
mod workspace;
mod zygotes;

use testkit::Server;

const VIRGA: &str = env!("CARGO_BIN_EXE_virga");

/// A server as it is by default.
fn server() -> Server {
    Server::start(VIRGA)
}
