//! The stores in the data directory, and what answers from them alone.

use std::sync::Arc;

use access::{Access, AccessRules, KnownActions, Nonces, Operator, master};
use bucket::store::Store as Objects;
use catalog::kv::{Kv, SqliteKv};
use catalog::{Catalog, MasterKeys};
use events::{Queue, SqliteQueue};
use model::{Account, Secret};
use operator::credentials::Credentials;
use telemetry::{Exporter, InvocationLog, LogStore, LogStoreSettings, Metrics, Sink, Telemetry};
use tracing::warn;
use triggers::ObjectTriggers;
use worker::PackageStore;

use super::error::StartError;
use super::parts::Parts;
use super::settings;
use crate::config::Config;

/// The open stores.
pub(super) struct Stores {
    pub(super) master: MasterKeys,
    pub(super) catalog: Catalog,
    pub(super) access: Access,
    pub(super) packages: PackageStore,
    pub(super) metrics: Arc<Metrics>,
    pub(super) exporter: Exporter,
    pub(super) log: InvocationLog,
    pub(super) telemetry: Telemetry,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) object_triggers: ObjectTriggers,
    /// `None` if buckets are disabled.
    pub(super) objects: Option<Objects>,
}

impl Stores {
    /// Opens all stores.
    pub(super) async fn open(
        parts: &mut Parts,
        config: &Config,
        credentials: Credentials,
    ) -> Result<Self, StartError> {
        let data = &config.api.data;
        let kv: Arc<dyn Kv> = Arc::new(SqliteKv::open(&data.join("catalog.sqlite"))?);
        let master = master::load(data, &*kv).await?;
        let kv = master::unseal(data, kv, &master).await?;
        let catalog = Catalog::open_bounded(Arc::new(kv), config.limits.catalog_bytes).await?;
        let account = access::operator_account(config.api.app_id, config.api.uin)?;
        let operator = Operator {
            account: account.clone(),
            key_id: credentials.id,
            secret: Secret::new(credentials.key.reveal()),
        };
        let access = open_access(config, operator, catalog.clone(), &master)?;
        let packages = PackageStore::open(&data.join("code"), &config.limits)?;
        let (metrics, exporter) =
            Exporter::install().map_err(|e| StartError::Metrics(e.to_string()))?;
        tokio::spawn(exporter.upkeep());
        let log = open_log(config, metrics.clone())?;
        // Each sink of finished invocations.
        let sinks: [Arc<dyn Sink>; 2] = [metrics.clone(), Arc::new(log.clone())];
        let telemetry = Telemetry::new(sinks);
        let flushed = telemetry.clone();
        parts.add_blocking("telemetry", move || flushed.flush());
        let queue = open_queue(parts, config)?;
        let object_triggers = ObjectTriggers::new(catalog.clone(), config.api.region.clone());
        let objects = open_objects(parts, config, &object_triggers)?;
        let stores = Self {
            master,
            catalog,
            access,
            packages,
            metrics,
            exporter,
            log,
            telemetry,
            queue,
            object_triggers,
            objects,
        };
        stores.reconcile_id_counters(&account).await?;
        Ok(stores)
    }

    /// Raises the account id counters above each id in any store. An id is never reused, even if an older virga or a backup
    /// left data of a deleted account.
    async fn reconcile_id_counters(&self, operator: &Account) -> Result<(), StartError> {
        let objects = self.objects.as_ref().map_or(0, Objects::highest_account);
        let highest = self.log.store().highest_account()?;
        let highest = highest
            .max(self.queue.highest_account().await?)
            .max(objects);
        self.catalog
            .reconcile_id_counters(operator, highest)
            .await?;
        Ok(())
    }
}

fn open_access(
    config: &Config,
    operator: Operator,
    catalog: Catalog,
    master: &MasterKeys,
) -> Result<Access, StartError> {
    let rules = AccessRules {
        region: config.api.region.clone(),
        actions: KnownActions {
            platform: gateway_scf::policy_actions(),
            objects: gateway_cos::policy_actions(),
        },
        rates: config.access.rate_limits.clone(),
        failures: config.access.auth_failures,
        signatures: config.access.signatures(),
    };
    let nonces = Nonces::open(&config.api.data.join("nonces"), clock::now_ms() / 1000)
        .map_err(StartError::io("open the list of used nonces"))?;
    Ok(Access::new(catalog, operator, rules, master, nonces))
}

fn open_log(config: &Config, metrics: Arc<Metrics>) -> Result<InvocationLog, StartError> {
    let settings = LogStoreSettings {
        retention: config.logs.log_retention_days,
        max_bytes: config.logs.log_store_mb << 20,
    };
    let store = LogStore::open(&config.api.data.join("logs.sqlite"), settings)?;
    InvocationLog::start(store, metrics).map_err(StartError::io("start the log writer"))
}

fn open_queue(parts: &mut Parts, config: &Config) -> Result<Arc<dyn Queue>, StartError> {
    let path = config.api.data.join("events.sqlite");
    let queue: Arc<dyn Queue> = Arc::new(SqliteQueue::open(&path, settings::event_budget(config))?);
    let ledger = queue.clone();
    parts.add("usage ledger", |_| async move {
        if let Err(error) = ledger.flush().await {
            warn!(%error, "failed to write the last entries of the usage ledger; they are lost");
        }
    });
    Ok(queue)
}

fn open_objects(
    parts: &mut Parts,
    config: &Config,
    triggers: &ObjectTriggers,
) -> Result<Option<Objects>, StartError> {
    let Some(settings) = &config.buckets else {
        return Ok(None);
    };
    let objects = gateway_cos::open(&config.api.data, settings, Arc::new(triggers.clone()))?;
    let closing = objects.clone();
    parts.add("buckets", |_| async move { closing.close().await });
    Ok(Some(objects))
}
