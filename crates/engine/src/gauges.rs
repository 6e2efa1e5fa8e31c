//! The gauges of the engine: instances, waiting requests, and the backlog of events.

use std::sync::Arc;
use std::time::Duration;

use events::Queue;
use telemetry::{Gauges, InstanceState, Metrics};

use crate::driver::Driver;
use crate::runner::Runner;

/// Registers all gauges of the engine.
pub fn register(gauges: &Gauges, driver: Driver, runner: Runner, queue: Arc<dyn Queue>) {
    gauges.register(move |metrics| {
        instances(&metrics, &driver);
        std::future::ready(())
    });
    gauges.register(move |metrics| {
        let (runner, queue) = (runner.clone(), queue.clone());
        async move { backlog(&metrics, &runner, &*queue).await }
    });
}

fn instances(metrics: &Metrics, driver: &Driver) {
    let totals = driver.totals();
    let states = [
        (InstanceState::Starting, totals.starting),
        (InstanceState::Busy, totals.busy),
        (InstanceState::Idle, totals.idle - totals.frozen),
        (InstanceState::Frozen, totals.frozen),
    ];
    for (state, count) in states {
        metrics.instances(state, count);
    }
    metrics.provisioned(totals.provisioned_min, totals.ready);
    metrics.waiting(totals.waiting);
}

async fn backlog(metrics: &Metrics, runner: &Runner, queue: &dyn Queue) {
    let Ok(backlog) = queue.backlog().await else {
        return;
    };
    let now = queue.clock().now();
    let oldest = backlog.oldest.map_or(0, |due| now.0.saturating_sub(due.0));
    let oldest = Duration::from_micros(oldest);
    // The two numbers are read at different moments; their sum must equal the events on disk.
    let running = runner.running().min(backlog.events);
    let waiting = backlog.events - running;
    metrics.backlog(waiting, running, backlog.bytes, oldest);
}
