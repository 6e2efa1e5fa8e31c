//! `virga up`: the recipe. Each step starts parts, and [`Parts`] stops them in reverse.

mod engine;
mod error;
mod gateway;
mod host;
mod inside;
mod listeners;
mod log;
mod parts;
mod ready;
mod serve;
mod settings;
mod stores;

use std::path::PathBuf;
use std::sync::Arc;

use operator::credentials;
use sandbox::user::Privileges;
use tracing::{info, warn};

use self::engine::Engine;
pub(crate) use self::error::StartError;
use self::host::Signals;
use self::listeners::Listeners;
use self::parts::Parts;
use self::ready::ReadyLine;
use self::serve::Connections;
use self::stores::Stores;
use crate::claims::Claim;
use crate::config::Config;

/// Runs virga until SIGTERM or SIGINT.
///
/// # Errors
/// virga does not start. Everything that had started has stopped again.
pub(crate) async fn up(
    config: Config,
    binary: PathBuf,
    privileges: Result<Privileges, String>,
) -> Result<(), StartError> {
    log::start(&config);
    for warning in &config.deprecations {
        warn!("{warning}");
    }
    let start = async |parts: &mut Parts| start(parts, &config, binary, privileges).await;
    let until = async |signals: Signals| {
        signals.wait().await;
        info!("draining: new requests are refused, running ones may complete");
    };
    Parts::new(config.api.drain_timeout)
        .run(start, until)
        .await?;
    info!("stopped");
    Ok(())
}

/// Starts all parts. From the return on virga serves.
async fn start(
    parts: &mut Parts,
    config: &Config,
    binary: PathBuf,
    privileges: Result<Privileges, String>,
) -> Result<Signals, StartError> {
    // 1. Preconditions, before anything is changed.
    let host = host::check(config, &privileges)?;
    parts.hold(
        "data directory",
        host::lock_data_directory(&config.api.data)?,
    );
    let credentials = credentials::load(&config.api.data)?;
    let from_environment = credentials::from_environment()?.is_some();
    let listeners = Listeners::bind(config).await?;
    let ready = ReadyLine::new(config, &listeners, from_environment);
    // 2. Stores.
    let stores = Stores::open(parts, config, credentials).await?;
    // 3. Exclusive host resources: control group, user ids, addresses.
    let claim = match &privileges {
        Ok(privileges) => Arc::new(Claim::take(config, privileges)?),
        Err(why) => return Err(StartError::Host(format!("  privilege: {why}"))),
    };
    parts.hold("claim", claim.clone());
    // 4. Whatever has to be cleaned up. From here on a signal leads to an orderly shutdown, even before virga serves.
    let signals = Signals::install().map_err(StartError::io("wait for a signal"))?;
    let (network, mut inside) = inside::open(parts, config, &claim).await?;
    let (authority, index) = (inside.authority.take(), inside.index.take());
    let platform = engine::platform(config, &listeners, authority.is_some());
    let worker = engine::start_worker(
        parts,
        config,
        stores.packages.clone(),
        (binary, &claim),
        network,
        authority,
    )?;
    let connections = Connections::start(parts);
    let engine = Engine::start(parts, config, &stores, worker, platform, index).await?;
    // 5. Listeners.
    let served = config.buckets.as_ref().zip(stores.objects.clone());
    let buckets = served
        .map(|(settings, store)| gateway_cos::service(store, stores.access.clone(), settings));
    let (gateway, urls) = gateway::assemble(config, stores, engine, &listeners);
    let (sockets, front) = ((listeners, inside), (gateway, urls));
    serve::start(parts, config, connections, sockets, front, buckets);
    ready.print(config, &host);
    Ok(signals)
}
