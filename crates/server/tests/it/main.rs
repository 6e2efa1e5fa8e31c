//! The real binary, asked over its public faces.
#![expect(clippy::expect_used, reason = "a test may end")]
#![expect(
    clippy::too_many_lines,
    reason = "a test follows one story from its start, or checks one table"
)]

mod access;
mod actions;
mod apigw;
mod bounds;
mod bucket_quota;
mod bucket_triggers;
mod builds;
mod cli;
mod cloud;
mod coexistence;
mod concurrency;
mod config;
mod conflicts;
mod cos_triggers;
mod dead_letters;
mod disk;
mod durability;
mod environment;
mod events;
mod external_storage;
mod fairness;
mod forwarded;
mod hosts;
mod installed;
mod isolation;
mod large_packages;
mod layers;
mod lifecycle;
mod limits;
mod model;
mod names;
mod ownership;
mod packages;
mod prefix;
mod programs;
mod provisioned;
mod purge;
mod roles;
mod runtime;
mod scaling;
mod secrets;
mod signed_calls;
mod signing;
mod starts;
mod status;
mod synced;
mod system_environment;
mod tls;
mod tmp_disk;
mod tracing;
mod traffic;
mod triggers;
mod upgrade;
mod urls;
mod usage;
mod user;
mod versions;
mod warm_calls;
mod web;
mod web_edge_cases;
mod web_keep_alive;
mod wire;
mod workspace;
mod zygotes;

use testkit::Server;

const VIRGA: &str = env!("CARGO_BIN_EXE_virga");

/// A server as it is by default.
fn server() -> Server {
    Server::start(VIRGA)
}
