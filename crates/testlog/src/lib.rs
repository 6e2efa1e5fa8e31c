//! What tests of state machines share: a log in memory with seeded faults, NATS servers, replicas, and the contents of databases.
//!
//! The crate is a dependency of tests alone.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod cluster;
mod contents;
mod node;
mod simulated;

pub use cluster::{Cluster, nats_binary};
pub use contents::{Contents, dump};
pub use node::Node;
pub use simulated::{Faults, Simulated};

use replica::Time;

/// Returns a writer's clock that follows tokio's, which tests pause.
pub fn clock() -> impl Fn() -> Time + Clone {
    let begun = tokio::time::Instant::now();
    move || Time(begun.elapsed().as_micros() as u64)
}

/// Runs a test under a paused clock, in one thread, so that a seed repeats it.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test)
}
