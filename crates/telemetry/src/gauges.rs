//! The recorder of gauges. Parts that have gauges register a function that reads them; exporters ask for all values at once.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::metrics::Metrics;

type Reading = Pin<Box<dyn Future<Output = ()> + Send>>;
type Read = Arc<dyn Fn(Arc<Metrics>) -> Reading + Send + Sync>;

/// The registered gauges. Clones share them.
#[derive(Clone)]
pub struct Gauges {
    metrics: Arc<Metrics>,
    registered: Arc<Mutex<Vec<Read>>>,
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauges")
    }
}

impl Gauges {
    /// Creates an empty list.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            registered: Arc::default(),
        }
    }

    /// Registers a function that reads gauges of one part and sets them in the metrics. It is called for each export. If it
    /// cannot read a value, it leaves the earlier one.
    pub fn register<F>(&self, read: impl Fn(Arc<Metrics>) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let read = move |metrics| -> Reading { Box::pin(read(metrics)) };
        self.registered().push(Arc::new(read));
    }

    /// Reads all registered gauges.
    pub async fn gather(&self) {
        let all = self.registered().clone();
        for read in all {
            read(self.metrics.clone()).await;
        }
    }

    fn registered(&self) -> MutexGuard<'_, Vec<Read>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
