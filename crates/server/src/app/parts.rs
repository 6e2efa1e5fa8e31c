//! The parts of a running virga. They start one after another and stop in reverse, each by its own stop function.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, warn};

/// Time that a part has to stop after the drain deadline. Then the others stop without it.
const GRACE: Duration = Duration::from_secs(10);

type Stop = Box<dyn FnOnce(Instant) -> Pin<Box<dyn Future<Output = ()>>>>;

/// The started parts, in the order of their start.
pub(super) struct Parts {
    started: Vec<(&'static str, Stop)>,
    drain_timeout: Duration,
    grace: Duration,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.started.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Parts {
    /// Creates an empty list. Requests may run for `drain_timeout` after the stop has begun.
    pub(super) fn new(drain_timeout: Duration) -> Self {
        Self {
            started: Vec::new(),
            drain_timeout,
            grace: GRACE,
        }
    }

    /// Runs `start`, which adds each part once it has started, waits for `until`, and stops all parts in reverse.
    ///
    /// # Errors
    /// A failed start stops the parts that it had started.
    pub(super) async fn run<T, E>(
        mut self,
        start: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
        until: impl AsyncFnOnce(T),
    ) -> Result<(), E> {
        let outcome = match start(&mut self).await {
            Ok(running) => {
                until(running).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.stop().await;
        outcome
    }

    /// Adds a started part with its stop function, which is called with the drain deadline.
    pub(super) fn add<F: Future<Output = ()> + 'static>(
        &mut self,
        name: &'static str,
        stop: impl FnOnce(Instant) -> F + 'static,
    ) {
        let stop = |deadline| -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(stop(deadline)) };
        self.started.push((name, Box::new(stop)));
    }

    /// Adds a part whose stop function blocks its thread.
    pub(super) fn add_blocking(
        &mut self,
        name: &'static str,
        stop: impl FnOnce() + Send + 'static,
    ) {
        self.add(name, move |_| async move {
            if tokio::task::spawn_blocking(stop).await.is_err() {
                error!(part = name, "panicked while it stopped");
            }
        });
    }

    /// Adds a part that stops by being dropped.
    pub(super) fn hold<T: 'static>(&mut self, name: &'static str, part: T) {
        self.add(name, |_| async move { drop(part) });
    }

    /// Stops all parts, the last one first. A part that does not stop in time is abandoned.
    async fn stop(self) {
        let deadline = Instant::now() + self.drain_timeout;
        for (name, stop) in self.started.into_iter().rev() {
            debug!(part = name, "stopping");
            let limit = deadline.max(Instant::now()) + self.grace;
            if timeout_at(limit, stop(deadline)).await.is_err() {
                warn!(
                    part = name,
                    "did not stop in time; the others stop without it"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What happened, in order.
    #[derive(Clone, Default)]
    struct Events(Rc<RefCell<Vec<String>>>);

    impl Events {
        fn push(&self, event: impl Into<String>) {
            self.0.borrow_mut().push(event.into());
        }

        /// Starts a part that records its stop.
        fn start(&self, parts: &mut Parts, name: &'static str) {
            self.push(format!("start {name}"));
            let events = self.clone();
            parts.add(name, move |_| async move {
                events.push(format!("stop {name}"));
            });
        }

        fn take(&self) -> Vec<String> {
            self.0.take()
        }
    }

    fn run(future: impl Future) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        runtime.block_on(future);
    }

    #[test]
    fn parts_stop_in_reverse_order_after_the_wait() {
        let events = Events::default();
        run(async {
            let start = async |parts: &mut Parts| {
                for name in ["a", "b", "c"] {
                    events.start(parts, name);
                }
                Ok::<_, ()>("running")
            };
            let until = async |state| events.push(state);
            let ended = Parts::new(Duration::ZERO).run(start, until).await;
            assert_eq!(ended, Ok(()));
        });
        let expected = [
            "start a", "start b", "start c", "running", "stop c", "stop b", "stop a",
        ];
        assert_eq!(events.take(), expected);
    }

    #[test]
    fn failed_start_stops_the_parts_started_before_it() {
        let events = Events::default();
        run(async {
            let start = async |parts: &mut Parts| {
                events.start(parts, "a");
                events.start(parts, "b");
                Err::<(), _>("c failed")?;
                events.start(parts, "d");
                Ok(())
            };
            let until = async |()| events.push("running");
            let ended = Parts::new(Duration::ZERO).run(start, until).await;
            assert_eq!(ended, Err("c failed"));
        });
        assert_eq!(events.take(), ["start a", "start b", "stop b", "stop a"]);
    }

    #[test]
    fn all_parts_share_the_drain_deadline() {
        let deadlines = Rc::new(RefCell::new(Vec::new()));
        run(async {
            let before = Instant::now();
            let start = async |parts: &mut Parts| {
                for name in ["a", "b"] {
                    let deadlines = deadlines.clone();
                    parts.add(name, move |deadline| async move {
                        deadlines.borrow_mut().push(deadline);
                    });
                }
                Ok::<_, ()>(())
            };
            let parts = Parts::new(Duration::from_secs(1000));
            parts.run(start, async |()| {}).await.expect("started");
            let deadlines = deadlines.borrow();
            assert_eq!(deadlines.len(), 2);
            assert_eq!(deadlines[0], deadlines[1]);
            assert!(deadlines[0] >= before + Duration::from_secs(1000));
        });
    }

    #[test]
    fn part_that_does_not_stop_in_time_is_abandoned() {
        let events = Events::default();
        run(async {
            let start = async |parts: &mut Parts| {
                events.start(parts, "a");
                parts.add("stuck", |_| std::future::pending());
                events.start(parts, "c");
                Ok::<_, ()>(())
            };
            let mut parts = Parts::new(Duration::ZERO);
            parts.grace = Duration::ZERO;
            parts.run(start, async |()| {}).await.expect("started");
        });
        assert_eq!(events.take(), ["start a", "start c", "stop c", "stop a"]);
    }
}
