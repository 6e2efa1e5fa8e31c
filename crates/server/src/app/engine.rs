//! The engine: everything that runs functions, without its callers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::builds::Builds;
use engine::driver::Driver;
use engine::index_proxy::IndexProxy;
use engine::invoke::Ingest;
use engine::lifecycle::Lifecycle;
use engine::provisioner::{CronClock, Provisioner};
use engine::runner::Runner;
use model::{FunctionKind, Limits};
use purge::Purge;
use sandbox::network::{API_PORT, BUCKET_PORT, Network};
use tokio::time::Instant;
use tracing::warn;
use triggers::Receiver;
use worker::{PackageStore, PlatformInfo, Worker};

use super::error::StartError;
use super::listeners::Listeners;
use super::parts::Parts;
use super::settings;
use super::stores::Stores;
use crate::claims::Claim;
use crate::config::Config;
use crate::network;

/// Maximum time to record the completion of events at shutdown.
const DRAIN_RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// The running engine.
pub(super) struct Engine {
    pub(super) limits: Arc<Limits>,
    pub(super) worker: Arc<Worker>,
    pub(super) driver: Driver,
    pub(super) ingest: Ingest,
    pub(super) builds: Builds,
    pub(super) provisioner: Provisioner,
    pub(super) runner: Runner,
    pub(super) receivers: Vec<Arc<dyn Receiver>>,
    pub(super) purge: Purge,
}

impl Engine {
    /// Starts the engine on a started worker. It runs queued events and creates those of triggers from then on.
    pub(super) async fn start(
        parts: &mut Parts,
        config: &Config,
        stores: &Stores,
        worker: Arc<Worker>,
        platform: PlatformInfo,
        index: Option<IndexProxy>,
    ) -> Result<Self, StartError> {
        let limits = Arc::new(config.limits.clone());
        let (catalog, packages) = (&stores.catalog, &stores.packages);
        let settings = settings::driver(config, stores.access.clone(), platform);
        let driver = Driver::start(worker.clone(), settings);
        let ingest = Ingest::new(
            catalog.clone(),
            driver.clone(),
            stores.telemetry.clone(),
            limits.clone(),
            stores.queue.clone(),
            stores.metrics.clone(),
            &gateway_scf::ScfDocuments,
        );
        let builds = Builds::new(
            driver.clone(),
            worker.clone(),
            settings::builds(config, index),
        );
        Lifecycle::start(
            catalog.clone(),
            driver.clone(),
            worker.clone(),
            packages.clone(),
            builds.clone(),
            limits.clone(),
        );
        let clock = CronClock {
            zone: config.events.cron_zone.clone(),
            weekday_zero: config.events.cron_weekday_zero,
        };
        let provisioner = Provisioner::start(catalog.clone(), driver.clone(), clock);
        let runner = start_runner(parts, config, stores, &ingest, &driver).await?;
        let receivers = start_triggers(parts, config, stores, &ingest).await?;
        let purge = start_purge(stores, &driver, &worker).await?;
        let gauges = stores.exporter.gauges();
        engine::gauges::register(gauges, driver.clone(), runner.clone(), stores.queue.clone());
        Ok(Self {
            limits,
            worker,
            driver,
            ingest,
            builds,
            provisioner,
            runner,
            receivers,
            purge,
        })
    }
}

/// Starts the worker, and the zygote that the first request most likely needs.
pub(super) fn start_worker(
    parts: &mut Parts,
    config: &Config,
    packages: PackageStore,
    (binary, claim): (PathBuf, &Claim),
    network: Option<Network>,
    authority: Option<sandbox::Authority>,
) -> Result<Arc<Worker>, StartError> {
    let settings = worker::Config {
        authority,
        ..settings::worker(config, packages, binary, claim)?
    };
    let worker = Arc::new(Worker::new(settings, network)?);
    let closing = worker.clone();
    parts.add_blocking("worker", move || closing.close());
    let Some(preferred) = worker.interpreters().preferred() else {
        warn!("no Python was found; install python3, or set its path with --python");
        return Ok(worker);
    };
    let runtime = preferred.runtime;
    if let Err(error) = worker.prepare(config.api.app_id, FunctionKind::Event, runtime, []) {
        warn!(%error, "failed to pre-warm an interpreter; the first cold start takes longer");
    }
    Ok(worker)
}

/// Returns the addresses and names of the installation for functions' environments.
pub(super) fn platform(
    config: &Config,
    listeners: &Listeners,
    trusts_authority: bool,
) -> PlatformInfo {
    let buckets = listeners.bucket_address;
    PlatformInfo {
        region: config.api.region.clone(),
        uin: config.api.uin.to_string(),
        endpoint: network::endpoint(config, listeners.address, API_PORT),
        buckets: buckets.and_then(|address| network::endpoint(config, address, BUCKET_PORT)),
        trusts_authority,
    }
}

/// Starts the runner of queued events. It stops in two steps: nothing new starts and everything that runs may complete;
/// then all completions are recorded.
async fn start_runner(
    parts: &mut Parts,
    config: &Config,
    stores: &Stores,
    ingest: &Ingest,
    driver: &Driver,
) -> Result<Runner, StartError> {
    let runner = Runner::start(
        stores.queue.clone(),
        ingest.clone(),
        stores.catalog.clone(),
        stores.metrics.clone(),
        settings::events(config, stores.access.clone()),
    )
    .await?;
    let recording = runner.clone();
    parts.add("event completions", |_| async move {
        if !recording.wait_idle(DRAIN_RECORD_TIMEOUT).await {
            warn!(
                "failed to record the completion of some events in time; they run again at the next start"
            );
        }
    });
    let (events, invocations) = (runner.clone(), driver.clone());
    parts.add("invocations", |deadline| async move {
        events.drain();
        let within = deadline.saturating_duration_since(Instant::now());
        if !invocations.drain(within).await {
            warn!(
                "some requests did not complete within the drain timeout; their instances are killed"
            );
        }
    });
    Ok(runner)
}

/// Starts all kinds of triggers. Returns the receivers of those that other systems notify.
async fn start_triggers(
    parts: &mut Parts,
    config: &Config,
    stores: &Stores,
    ingest: &Ingest,
) -> Result<Vec<Arc<dyn Receiver>>, StartError> {
    let context = triggers::Context {
        catalog: stores.catalog.clone(),
        ingest: ingest.clone(),
        metrics: stores.metrics.clone(),
        objects: stores.objects.clone(),
        object_triggers: stores.object_triggers.clone(),
        settings: settings::triggers(config),
    };
    let mut receivers = Vec::new();
    for kind in triggers::KINDS {
        if let Some(running) = kind.start(&context).await? {
            receivers.extend(running.receiver());
            parts.add(kind.name, |_| running.stop());
        }
    }
    Ok(receivers)
}

async fn start_purge(
    stores: &Stores,
    driver: &Driver,
    worker: &Arc<Worker>,
) -> Result<Purge, StartError> {
    let purge = Purge::start(purge::Stores {
        catalog: stores.catalog.clone(),
        driver: driver.clone(),
        worker: worker.clone(),
        queue: stores.queue.clone(),
        log: stores.log.clone(),
        packages: stores.packages.clone(),
        objects: stores.objects.clone(),
    });
    Ok(purge.await?)
}
