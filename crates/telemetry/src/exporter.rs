//! The exporter for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::gauges::Gauges;
use super::metrics::{ALL, Kind, Metrics};

/// Upper bounds of the histogram buckets in seconds, dense in the range of cold starts and warm calls.
const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
];

/// Renders the metrics as Prometheus text. Clones share them.
#[derive(Clone)]
pub struct Exporter {
    recorded: PrometheusHandle,
    gauges: Gauges,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

impl Exporter {
    /// Installs the global recorder of the process, and returns the metrics that record into it. Call once per process.
    ///
    /// # Errors
    /// A recorder is installed already.
    pub fn install() -> Result<(Arc<Metrics>, Self), BuildError> {
        let recorded = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS)?
            .install_recorder()?;
        describe();
        let metrics = Arc::new(Metrics::new());
        let gauges = Gauges::new(metrics.clone());
        Ok((metrics, Self { recorded, gauges }))
    }

    /// Returns the list to which parts add their gauges.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Returns the page with all current values.
    pub async fn page(&self) -> String {
        self.gauges.gather().await;
        self.recorded.render()
    }

    /// Periodically folds recorded values into their histograms. Until then each value takes memory, even if nobody scrapes.
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + use<> {
        const EVERY: Duration = Duration::from_secs(5);
        // Without the gauges, which would keep their parts alive.
        let recorded = self.recorded.clone();
        async move {
            let mut ticks = tokio::time::interval(EVERY);
            loop {
                ticks.tick().await;
                recorded.run_upkeep();
            }
        }
    }
}

/// Describes all metrics to the recorder.
fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => {
                describe_counter!(metric.name, metric.help);
                counter!(metric.name).absolute(0);
            }
            Kind::LabelledCounter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}
