//! `virga up`: starts all components in order and stops them in reverse.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use catalog::kv::{Kv, SqliteKv};
use catalog::{Catalog, MasterKeys};
use dispatch::events::{QueueLimits, RetryPolicy};
use dispatch::schedule::ScheduleConfig;
use model::{Account, FunctionKind, Limits};
use sandbox::Isolation;
use sandbox::network::{API_NAME, API_PORT, BUCKET_PORT, INDEX_PORT, Network};
use sandbox::user::Privileges;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_service::Service;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use worker::{InstallSettings, Interpreters, PackageStore, PlatformInfo, Worker};

use crate::access::master::{self, MasterError};
use crate::access::{self, Access, AccessRules, Nonces, Operator};
use crate::buckets::{self, BucketListeners, BucketsError};
use crate::builds::{BuildSettings, Builds};
use crate::claims::{Claim, ClaimError};
use crate::cloud::{self, Cloud, CloudError};
use crate::config::{Config, LogFormat, NetworkReach};
use crate::credentials::{self, CredentialsError};
use crate::driver::{self, Driver};
use crate::gateway::{
    Gateway, MetricsAccess, PACKAGE_MEMORY_BYTES, Prometheus, inside_router, metrics_router,
    router, secure_inside_router, secure_router,
};
use crate::hosts::{ApiHosts, CertificateNames};
use crate::index_proxy::IndexProxy;
use crate::invoke::Ingest;
use crate::lifecycle::Lifecycle;
use crate::listen::{self, Http, Listener};
use crate::network;
use crate::ownership::{Dns, Ownership, watch as watch_domains};
use crate::provisioner::{CronClock, Provisioner};
use crate::purge::{Purge, Stores};
use crate::queue::{self, Budget, Queue, QueueError, Runner, SqliteQueue};
use crate::telemetry::{self, LogStore, LogStoreError, LogStoreSettings, Metrics, Telemetry};
use crate::tls::{self, Source, TlsError};
use crate::traffic::{FairSemaphore, Peer, RequestBody, Traffic, TrafficRules};
use crate::triggers::{ObjectTriggers, Relay, TimerSettings, Timers};
use crate::urls::{Addresses, ListenerKind, UrlRouter, UrlSettings, Urls};

/// How long a pool waits for memory before pools that hold more yield some.
const YIELD_AFTER: Duration = Duration::from_millis(500);
const START_ATTEMPTS: u8 = 3;
/// Queued events per function that are prefetched into memory.
const EVENT_WINDOW: usize = 512;
/// Queued events per function that wait for an instance at a time, besides synchronous calls.
const EVENTS_QUEUED: u32 = 16;
/// Maximum number of concurrently running events per function.
const EVENTS_RUNNING: usize = 4096;
/// Retention of completed events. Source: SCF's page on the status of asynchronous events.
const EVENT_HISTORY: Duration = Duration::from_secs(3 * 86_400);
/// Maximum time to record the completion of events at shutdown.
const DRAIN_RECORD_TIMEOUT: Duration = Duration::from_secs(5);
/// Logged at each start without full isolation.
const ISOLATION_WARNING: &str = "--isolation=process: functions are processes of this host, with its network and virga's own user, \
    and without limits on processors or, but for each process' own data, memory; run no code here that you do not trust";

/// A reason why virga does not start. Each message says how to fix it.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("data directory {path}: {source}; choose a writable one with --data")]
    Data { path: String, source: io::Error },
    #[error(
        "another virga uses the data directory {0}; stop it, or choose another directory with --data"
    )]
    InUse(String),
    #[error("this host cannot isolate functions:\n{0}\nrun virga doctor for all requirements")]
    Host(String),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Account(#[from] model::Invalid),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Worker(#[from] worker::Error),
    #[error(transparent)]
    Packages(#[from] worker::PackageError),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Master(#[from] MasterError),
    #[error(transparent)]
    Store(#[from] catalog::kv::KvError),
    #[error(transparent)]
    Logs(#[from] LogStoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("metrics: {0}")]
    Metrics(String),
    #[error("cannot listen on {address}: {source}; choose another address with --{option}")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Buckets(#[from] BucketsError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error("{step}: {source}")]
    Io {
        step: &'static str,
        source: io::Error,
    },
}

/// Runs virga until SIGTERM or SIGINT. Returns whether all running requests completed in time.
pub(crate) async fn up(
    config: Config,
    binary: PathBuf,
    privileges: Result<Privileges, String>,
) -> Result<bool, StartError> {
    start_log(&config);
    for warning in &config.deprecations {
        warn!("{warning}");
    }
    // 1. Preconditions, before anything is changed.
    let host = check_host(&config, &privileges)?;
    if config.isolation == Isolation::Process {
        warn!("{ISOLATION_WARNING}");
    }
    let _lock = lock_data_directory(&config.data)?;
    let credentials = credentials::load(&config.data)?;
    let credentials_from_environment = credentials::from_environment()?.is_some();
    let (listener, address) = bind(config.listen, "listen").await?;
    let certificate = CertificateNames::default();
    let secure = match &config.tls {
        Some(settings) => {
            let (listener, address) = bind(settings.listen, "tls-listen").await?;
            let names = certificate.clone();
            let tls = tls::open(settings, &config.data, names, &config.region, &[])?;
            let tls = Some(tls);
            Some((Listener { listener, tls }, address))
        }
        None => None,
    };
    let metrics_listener = match config.metrics_listen {
        Some(wanted) => Some(bind(wanted, "metrics-listen").await?),
        None => None,
    };
    let secure_address = secure.as_ref().map(|(_, address)| *address);
    let bucket_listeners = bucket_listeners(&config).await?;
    // 2. Stores.
    let data = &config.data;
    let kv: Arc<dyn Kv> = Arc::new(SqliteKv::open(&data.join("catalog.sqlite"))?);
    let master = master::load(data, &*kv).await?;
    let kv = master::unseal(data, kv, &master).await?;
    let catalog = Catalog::open_bounded(Arc::new(kv), config.limits.catalog_bytes).await?;
    let own = access::operator_account(config.account, config.uin)?;
    let access = open_access(&config, own.clone(), credentials, catalog.clone(), &master)?;
    let packages = PackageStore::open(&data.join("code"), &config.limits)?;
    let (metrics, prometheus) =
        telemetry::install_metrics().map_err(|e| StartError::Metrics(e.to_string()))?;
    let metrics = Arc::new(metrics);
    tokio::spawn(telemetry::run_metrics_upkeep(prometheus.clone()));
    let settings = LogStoreSettings {
        retention: config.log_retention,
        max_bytes: config.log_store_bytes,
    };
    let store = LogStore::open(&data.join("logs.sqlite"), settings)?;
    let telemetry =
        Telemetry::start(store.clone(), metrics.clone()).map_err(|source| StartError::Io {
            step: "start the log writer",
            source,
        })?;
    let queue: Arc<dyn Queue> = Arc::new(SqliteQueue::open(
        &data.join("events.sqlite"),
        event_budget(&config),
    )?);
    let bucket_settings = config.buckets.as_ref();
    let object_triggers = ObjectTriggers::new(catalog.clone(), config.region.clone());
    let change_listener = Arc::new(object_triggers.clone());
    let objects = bucket_settings.map(|settings| buckets::open(data, settings, change_listener));
    let objects = objects.transpose()?;
    // Account ids are never reused, even if an older virga or a backup left data of a deleted account.
    let bucket_accounts = objects
        .as_ref()
        .map_or(0, |objects| objects.highest_account());
    let highest = store.highest_account()?.max(queue.highest_account().await?);
    catalog
        .reconcile_id_counters(&own, highest.max(bucket_accounts))
        .await?;
    // 3. Exclusive host resources: control group, user ids, addresses. They are released last.
    let claim = match &privileges {
        Ok(privileges) => Claim::take(&config, privileges)?,
        Err(why) => return Err(StartError::Host(format!("  privilege: {why}"))),
    };
    // 4. Components with resources to clean up. From here on a signal leads to an orderly shutdown, even before virga serves.
    let signals = Signals::install().map_err(|source| StartError::Io {
        step: "wait for a signal",
        source,
    })?;
    let functions = network::open(&config, &claim).map_err(worker::Error::from)?;
    let inside = listen_for_functions(functions.as_ref(), API_PORT)?;
    let inside_buckets = functions.as_ref().filter(|_| bucket_listeners.is_some());
    let inside_buckets = listen_for_functions(inside_buckets, BUCKET_PORT)?;
    let index = index_proxy(&config, functions.as_ref()).await?;
    let cloud = functions.as_ref().filter(|_| config.cloud_names);
    let cloud = cloud.map(|network| Cloud::open(&config, network));
    let cloud = cloud.transpose()?;
    let authority = cloud.as_ref().map(|_| cloud::authority(&config));
    let worker_config = worker::Config {
        authority: authority.transpose()?,
        ..worker_config(&config, binary, &claim)?
    };
    let worker = Arc::new(Worker::new(worker_config, functions)?);
    if worker.interpreters().newest_python().is_none() {
        warn!("no Python was found; install python3, or set its path with --python");
    }
    let platform = PlatformInfo {
        region: config.region.clone(),
        uin: config.uin.to_string(),
        endpoint: network::endpoint(&config, address, API_PORT),
        buckets: bucket_listeners.as_ref().and_then(|bucket_listeners| {
            network::endpoint(&config, bucket_listeners.address, BUCKET_PORT)
        }),
        trusts_authority: cloud.is_some(),
    };
    let settings = driver_settings(&config, access.clone(), platform);
    let driver = Driver::start(worker.clone(), packages.clone(), settings);
    let limits = Arc::new(config.limits.clone());
    let ingest = Ingest::new(
        catalog.clone(),
        driver.clone(),
        telemetry.clone(),
        limits.clone(),
        queue.clone(),
        metrics.clone(),
    );
    let install = InstallSettings {
        timeout: config.install_timeout,
        index: config.install_index.as_ref().map(|index| index.url.clone()),
        registry: config.install_registry.clone(),
        directories: config.install_directories.clone(),
        host_network: config.install_on_host_network,
    };
    let builds = Builds::new(
        driver.clone(),
        worker.clone(),
        packages.clone(),
        BuildSettings {
            install,
            index,
            memory_mb: config.install_memory_mb,
        },
    );
    let lifecycle = Lifecycle::start(
        catalog.clone(),
        driver.clone(),
        worker.clone(),
        packages.clone(),
        builds.clone(),
        limits.clone(),
    );
    let provisioner = Provisioner::start(
        catalog.clone(),
        driver.clone(),
        CronClock {
            zone: config.cron_zone.clone(),
            weekday_zero: config.cron_weekday_zero,
        },
    );
    let runner = Runner::start(
        queue.clone(),
        ingest.clone(),
        catalog.clone(),
        metrics.clone(),
        event_settings(&config, limits.clone(), access.clone()),
    )
    .await?;
    let journal = SqliteKv::open(&data.join("timers.sqlite"))?;
    let timers = Timers::start(
        catalog.clone(),
        ingest.clone(),
        Arc::new(journal),
        metrics.clone(),
        timer_settings(&config),
    )
    .await?;
    let relay = objects
        .as_ref()
        .map(|objects| Relay::start(objects.outbox(), ingest.clone(), metrics.clone()));
    let purge = Purge::start(Stores {
        catalog: catalog.clone(),
        driver: driver.clone(),
        worker: worker.clone(),
        queue: queue.clone(),
        telemetry: telemetry.clone(),
        logs: store,
        packages: packages.clone(),
        objects: objects.clone(),
    })
    .await?;
    prewarm(&worker, &config);
    // 5. Listeners.
    let addresses = Addresses::new(
        &config.region,
        &config.url_domain,
        config.public_url.as_deref(),
        address,
    );
    let addresses = Arc::new(addresses.with_paths(config.url_paths));
    let hosts = Arc::new(api_hosts(&config, certificate));
    let ownership = Arc::new(Ownership::new(
        config.domain_allow.clone(),
        &master,
        Dns::new(&config.domain_resolvers),
        config.domain_grace,
    ));
    let served = bucket_settings
        .zip(objects.clone())
        .map(|(settings, store)| buckets::service(store, access.clone(), settings));
    let settings = UrlSettings {
        addresses: addresses.clone(),
        hosts: hosts.clone(),
        ownership: ownership.clone(),
        errors: config.url_errors,
    };
    let urls = Arc::new(Urls::new(
        settings,
        limits.clone(),
        catalog.clone(),
        ingest.clone(),
        access.clone(),
    ));
    let gateway = Gateway {
        access: access.clone(),
        region: config.region.clone(),
        weekday_zero: config.cron_weekday_zero,
        public_url: config.public_url.clone(),
        event_sources: config.event_sources.clone(),
        object_triggers,
        addresses,
        hosts,
        bounds: Arc::new(crate::gateway::bounds(&limits)),
        ownership: ownership.clone(),
        limits,
        catalog,
        ingest,
        queue: queue.clone(),
        runner: runner.clone(),
        driver: driver.clone(),
        provisioner,
        worker: worker.clone(),
        packages,
        lifecycle,
        builds,
        object_source: buckets::ObjectSource::new(objects.clone(), config.region.clone()),
        purge,
        telemetry: telemetry.clone(),
        metrics: metrics.clone(),
        prometheus: Prometheus(prometheus),
        monitoring: MetricsAccess {
            token: config.metrics_token.clone(),
            separate_listener: metrics_listener.is_some(),
        },
        body_memory: FairSemaphore::new(TrafficRules::bodies(&config.traffic)),
        package_memory: FairSemaphore::new(PACKAGE_MEMORY_BYTES),
        forms: Semaphore::new(1),
    };
    tokio::spawn(watch_domains(
        ownership,
        gateway.catalog.clone(),
        config.domain_check,
    ));
    let gateway = Arc::new(gateway);
    let (stop, stopped) = watch::channel(());
    let mut serving = JoinSet::new();
    let (outside, within) = traffic(&config, &metrics, &stopped);
    let url_router = UrlRouter::new(urls.clone(), ListenerKind::Plain, router(gateway.clone()));
    serving.spawn(serve(
        plain(listener),
        outside.clone(),
        url_router,
        stopped.clone(),
    ));
    if let Some((secure, _)) = secure {
        let url_router = UrlRouter::new(
            urls.clone(),
            ListenerKind::Tls,
            secure_router(gateway.clone()),
        );
        serving.spawn(serve(secure, outside.clone(), url_router, stopped.clone()));
    }
    let metrics_address = metrics_listener.as_ref().map(|(_, address)| *address);
    if let Some((metrics_listener, _)) = metrics_listener {
        let routes = metrics_router(gateway.clone());
        let answer = move |request: Request<RequestBody>, peer: Peer| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let mut routes = routes.clone();
            async move {
                routes
                    .call(request)
                    .await
                    .unwrap_or_else(|never| match never {})
            }
        };
        let (traffic, stopped) = (outside.clone(), stopped.clone());
        serving.spawn(listen::serve(
            plain(metrics_listener),
            Http::new(),
            traffic,
            answer,
            stopped,
        ));
    }
    // Dropping the name servers at the end of this function stops them.
    let (cloud_api, cloud_buckets, _resolvers) = cloud.map_or_else(Default::default, |cloud| {
        (cloud.api, cloud.buckets, Some(cloud.resolvers))
    });
    for listener in inside.map(plain).into_iter().chain(cloud_api) {
        let routes = match &listener.tls {
            None => inside_router(gateway.clone()),
            Some(_) => secure_inside_router(gateway.clone()),
        };
        let url_router = UrlRouter::new(urls.clone(), ListenerKind::Inside, routes);
        serving.spawn(serve(listener, within.clone(), url_router, stopped.clone()));
    }
    let bucket_address = bucket_listeners
        .as_ref()
        .map(|bucket_listeners| bucket_listeners.address);
    if let Some((bucket_listeners, served)) = bucket_listeners.zip(served) {
        let outer = [Some(bucket_listeners.plain), bucket_listeners.secure]
            .into_iter()
            .flatten();
        let outer = outer.map(|listener| (listener, outside.clone(), false));
        let inside = inside_buckets.map(plain).into_iter().chain(cloud_buckets);
        let inside = inside.map(|listener| (listener, within.clone(), true));
        for (listener, traffic, inside) in outer.chain(inside) {
            let access = access.clone();
            let callers = buckets::Callers { access, inside };
            serving.spawn(buckets::serve(
                listener,
                Http::new(),
                traffic,
                (served.clone(), callers),
                metrics.clone(),
                stopped.clone(),
            ));
        }
    }
    drop(stopped);
    print_ready_line(
        address,
        secure_address,
        bucket_address,
        metrics_address,
        &config,
        credentials_from_environment,
        &host,
    );
    // 6. Shutdown, in reverse.
    signals.wait().await;
    info!("draining: new requests are refused, running ones may complete");
    drop(stop);
    timers.stop().await;
    if let Some(relay) = relay {
        relay.stop().await;
    }
    runner.drain();
    let drained = driver.drain(config.drain_timeout).await;
    if !drained {
        warn!(
            "some requests did not complete within the drain timeout; their instances are killed"
        );
    }
    if !runner.wait_idle(DRAIN_RECORD_TIMEOUT).await {
        warn!(
            "failed to record the completion of some events in time; they run again at the next start"
        );
    }
    if let Err(error) = queue.flush().await {
        warn!(%error, "failed to write the last entries of the usage ledger; they are lost");
    }
    // Connections with a response in progress get 1 s; idle ones are closed immediately.
    let _ = tokio::time::timeout(Duration::from_secs(1), serving.join_all()).await;
    if let Some(objects) = objects {
        objects.close().await;
    }
    let last = tokio::task::spawn_blocking(move || {
        worker.close();
        telemetry.flush();
    });
    last.await.unwrap_or_default();
    info!("stopped");
    Ok(drained)
}

/// Returns the host names of this installation. They include the machine's name, which clients on its network use.
fn api_hosts(config: &Config, certificate: CertificateNames) -> ApiHosts {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let patterns = config.api_hosts.iter().cloned();
    let patterns: Vec<_> = patterns.chain(machine.trim().parse()).collect();
    let buckets = config.buckets.iter().flat_map(|buckets| &buckets.domains);
    let zones = buckets.chain([&config.url_domain]).map(String::as_str);
    ApiHosts::new(&patterns, config.public_url.as_deref(), zones, certificate)
}

async fn bind(
    wanted: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen {
        address: wanted,
        option,
        source,
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Binds the listeners of the bucket API; `None` if buckets are disabled.
async fn bucket_listeners(config: &Config) -> Result<Option<BucketListeners>, StartError> {
    let Some(settings) = &config.buckets else {
        return Ok(None);
    };
    let (listener, address) = bind(settings.listen, "bucket-listen").await?;
    let secure = match (&config.tls, settings.tls_listen) {
        (Some(tls), Some(listen)) => {
            let (listener, _) = bind(listen, "bucket-tls-listen").await?;
            let domains: Vec<_> = settings
                .domains
                .iter()
                .cloned()
                .chain([API_NAME.to_owned()])
                .collect();
            let names = CertificateNames::default();
            let tls = tls::open(tls, &config.data, names, &config.region, &domains)?;
            let tls = Some(tls);
            Some(Listener { listener, tls })
        }
        _ => None,
    };
    Ok(Some(BucketListeners {
        plain: plain(listener),
        address,
        secure,
    }))
}

/// Starts the proxy that adds credentials to requests to the package index, in the network that builds use. Returns `None` if
/// the index needs no credentials or builds have no network.
async fn index_proxy(
    config: &Config,
    functions: Option<&Network>,
) -> Result<Option<IndexProxy>, StartError> {
    let index = config.install_index.as_ref();
    let Some(index) = index.filter(|index| index.credentials.is_some()) else {
        return Ok(None);
    };
    let on_host = config.install_on_host_network || config.isolation == Isolation::Process;
    let listener = if on_host {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Some(bind(loopback, "install-index").await?.0)
    } else {
        // Without a network a build cannot reach the index.
        listen_for_functions(functions, INDEX_PORT)?
    };
    let started = listener.map(|listener| IndexProxy::start(index, listener));
    started.transpose().map_err(|source| StartError::Io {
        step: "start the proxy to the package index",
        source,
    })
}

/// Binds a listener in the functions' network; `None` if there is none.
fn listen_for_functions(
    network: Option<&Network>,
    port: u16,
) -> Result<Option<TcpListener>, StartError> {
    let Some(network) = network else {
        return Ok(None);
    };
    let listener = network.listen(port).map_err(worker::Error::from)?;
    let listener = into_tokio(listener).map_err(|source| StartError::Io {
        step: "listen for functions",
        source,
    })?;
    Ok(Some(listener))
}

fn plain(listener: TcpListener) -> Listener {
    Listener {
        listener,
        tls: None,
    }
}

/// Starts traffic control for external clients and for functions.
fn traffic(
    config: &Config,
    metrics: &Arc<Metrics>,
    stopped: &watch::Receiver<()>,
) -> (Traffic, Traffic) {
    let (settings, head, files) = (&config.traffic, config.head_timeout, open_files());
    let start = |rules, proxies| {
        Traffic::start(
            rules,
            proxies,
            &config.data,
            metrics.clone(),
            stopped.clone(),
        )
    };
    (
        start(
            TrafficRules::outside(settings, head, files),
            &settings.proxies,
        ),
        start(TrafficRules::inside(settings, head, files), &[]),
    )
}

/// Serves until the sender of `stopped` is dropped.
async fn serve(
    listener: Listener,
    traffic: Traffic,
    url_router: UrlRouter,
    stopped: watch::Receiver<()>,
) {
    let url_router = Arc::new(url_router);
    let answer = move |request: Request<RequestBody>, peer: Peer| {
        let url_router = url_router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        async move { url_router.answer(request).await }
    };
    listen::serve(listener, Http::new(), traffic, answer, stopped).await;
}

fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn start_log(config: &Config) {
    // s3s logs every rejected request as an error, and signing keys at finer levels.
    let filter = EnvFilter::new(format!("{},s3s=off", config.log));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    if json {
        builder.json().init();
    } else {
        builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init();
    }
}

/// Checks the host, so that isolation never degrades silently. Returns a summary of the findings for the log.
fn check_host(
    config: &Config,
    privileges: &Result<Privileges, String>,
) -> Result<String, StartError> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let networked = config.isolation == Isolation::Full;
    let network =
        (networked && config.network != NetworkReach::Nothing).then(sandbox::probe::network);
    let outbound = (networked && config.network == NetworkReach::Outbound)
        .then(|| sandbox::probe::outbound(privileges.as_ref().ok()?))
        .flatten();
    let checks = match config.isolation {
        Isolation::Full => sandbox::probe::host(privileges),
        Isolation::Process => sandbox::probe::process(),
    };
    for check in checks.into_iter().chain(network).chain(outbound) {
        match check.result {
            Ok(what) => found.push(what),
            Err(why) => missing.push(format!("  {}: {why}", check.name)),
        }
    }
    if missing.is_empty() {
        Ok(found.join("; "))
    } else {
        Err(StartError::Host(missing.join("\n")))
    }
}

/// Creates the data directory and locks it. The lock is held until the file is closed.
fn lock_data_directory(data: &Path) -> Result<File, StartError> {
    let path = data.display().to_string();
    let failed = |source| StartError::Data {
        path: path.clone(),
        source,
    };
    // Functions' settings contain their users' secrets.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    let lock = File::options()
        .create(true)
        .append(true)
        .open(data.join("lock"))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            restrict_permissions(data).map_err(failed)?;
            Ok(lock)
        }
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse(path)),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes other users' permissions on the data directory: it contains packages, logs and events.
fn restrict_permissions(data: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(data)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let closed = mode & 0o700;
        std::fs::set_permissions(data, Permissions::from_mode(closed))?;
        let (data, mode) = (data.display(), format!("{mode:04o}"));
        warn!(%data, was = mode, "the data directory was open to other users; their permissions were removed");
    }
    Ok(())
}

fn worker_config(
    config: &Config,
    virga: PathBuf,
    claim: &Claim,
) -> Result<worker::Config, StartError> {
    let (uid_base, uid_count) = claim.users;
    let directory = config.data.join("run");
    // Roots are bind-mounted from here, so the path must be absolute.
    std::fs::create_dir_all(&directory).map_err(|source| StartError::Io {
        step: "create the run directory",
        source,
    })?;
    let directory = directory.canonicalize().map_err(|source| StartError::Io {
        step: "resolve the run directory",
        source,
    })?;
    Ok(worker::Config {
        directory,
        virga,
        cgroup: claim.cgroup.clone(),
        claim: claim.for_warden(),
        interpreters: Interpreters::find(&config.python, &config.node, config.runtime_fallback),
        uid_base,
        uid_count: uid_count.min(max_instances_by_open_files()),
        blanks: config.prewarm,
        renewal: config.renewal,
        limits: config.limits.clone(),
        isolation: config.isolation,
        authority: None,
        tmp_total_bytes: config.tmp_total_mb.map(|mb| mb << 20),
    })
}

/// Raises the limit on open files of this process and returns it.
fn open_files() -> u64 {
    sandbox::raise_open_files(1 << 20).unwrap_or(1024)
}

/// Returns the number of instances for which this process can hold open files.
fn max_instances_by_open_files() -> u32 {
    /// Per instance: three pipes, two control group files, two for its disk, and one pidfd.
    const FILES_PER_INSTANCE: u64 = 8;
    /// For connections, packages and stores.
    const RESERVED_FILES: u64 = 16_384;
    let files = open_files();
    let instances = files.saturating_sub(RESERVED_FILES.min(files / 2)) / FILES_PER_INSTANCE;
    u32::try_from(instances).unwrap_or(u32::MAX)
}

fn open_access(
    config: &Config,
    account: Account,
    credentials: credentials::Credentials,
    catalog: Catalog,
    master: &MasterKeys,
) -> Result<Access, StartError> {
    let operator = Operator {
        account,
        credentials,
    };
    let rules = AccessRules {
        region: config.region.clone(),
        rates: config.rate_limits.clone(),
        failures: config.auth_failures,
        signatures: config.signatures,
    };
    let now = crate::clock::now_ms() / 1000;
    let nonces = Nonces::open(&config.data.join("nonces"), now);
    let nonces = nonces.map_err(|source| StartError::Io {
        step: "open the list of used nonces",
        source,
    })?;
    Ok(Access::new(catalog, operator, rules, master, nonces))
}

fn driver_settings(config: &Config, access: Access, platform: PlatformInfo) -> driver::Settings {
    driver::Settings {
        dispatch: dispatch::Config {
            account_mb: config.limits.concurrency_mb.into(),
            node_mb: config.node_memory_mb,
            headroom_mb: config.headroom_mb,
            first_mb: config.first_mb,
            max_starting: config.max_starting,
            max_waiting: config.max_waiting,
            max_start_attempts: START_ATTEMPTS,
            brief_at_once: config.short_request_concurrency,
            starts_per_minute: config.limits.scale_out_per_minute,
            yield_after: YIELD_AFTER.as_micros() as u64,
        },
        keep_alive: config.keep_alive,
        freeze_after: config.freeze_after,
        wait: config.wait,
        platform: Arc::new(platform),
        call_chains: access.call_chains().clone(),
        access,
        role_session: config.role_session,
    }
}

fn event_budget(config: &Config) -> Budget {
    Budget {
        bytes: config.event_store_bytes,
        history: EVENT_HISTORY,
        history_events: config.event_history,
        usage: config.usage_retention,
    }
}

fn timer_settings(config: &Config) -> TimerSettings {
    TimerSettings {
        terms: ScheduleConfig {
            zone: config.cron_zone.clone(),
            missed: config.timer_missed,
            grace: config.timer_grace.as_secs() as i64,
        },
        weekday_zero: config.cron_weekday_zero,
    }
}

fn event_settings(config: &Config, limits: Arc<Limits>, access: Access) -> queue::Settings {
    let microseconds = |time: Duration| time.as_micros() as u64;
    queue::Settings {
        pacing: QueueLimits {
            window: EVENT_WINDOW,
            waiting: EVENTS_QUEUED,
            in_progress: EVENTS_RUNNING,
            pause: microseconds(config.event_throttled),
        },
        policy: RetryPolicy {
            retries: config.limits.retry_num_max,
            ttl: u64::from(config.limits.msg_ttl_max_s) * 1_000_000,
            after_user_fault: microseconds(config.event_retry),
            after_system_fault: microseconds(config.event_backoff),
            max_delay: microseconds(config.event_backoff_max),
        },
        wait: config.wait.max(config.event_throttled),
        max_depth: config.max_depth,
        limits,
        access,
        endpoints: config.dead_letter_endpoints.clone(),
    }
}

/// Starts the newest Python interpreter, which the first request most likely needs.
fn prewarm(worker: &Worker, config: &Config) {
    if let Some(newest) = worker.interpreters().newest_python()
        && let Err(error) = worker.prepare(config.account, FunctionKind::Event, newest, [])
    {
        warn!(%error, "failed to pre-warm an interpreter; the first cold start takes longer");
    }
}

/// Prints one line with all addresses and paths.
#[expect(clippy::print_stdout, reason = "tools wait for this line")]
fn print_ready_line(
    address: SocketAddr,
    secure: Option<SocketAddr>,
    buckets: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    config: &Config,
    credentials_from_environment: bool,
    host: &str,
) {
    let data = &config.data;
    let credentials = if credentials_from_environment {
        "the environment's".to_owned()
    } else {
        data.join(credentials::FILE).display().to_string()
    };
    let mut also =
        buckets.map_or_else(String::new, |address| format!("  buckets http://{address}"));
    if let (Some(secure), Some(settings)) = (secure, &config.tls) {
        also.push_str(&format!("  tls https://{secure}"));
        if settings.source == Source::Authority {
            let ca = data.join(tls::DIRECTORY).join(tls::CA);
            also.push_str(&format!("  ca {}", ca.display()));
        }
    }
    if let Some(metrics) = metrics {
        also.push_str(&format!("  metrics http://{metrics}"));
    }
    println!(
        "virga is ready: api http://{address}  data {}  credentials {credentials}{also}",
        data.display()
    );
    let _ = io::stdout().flush();
    let cron_zone = config.cron_zone.iana_name();
    info!(%address, host, cron_zone, "ready");
}

/// The signals that stop virga.
struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first signal since [`Signals::install`].
    async fn wait(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
