//! Assembles the gateway, function URLs and the bucket server.

use std::sync::Arc;

use control::{Control, ObjectSource};
use gateway_scf::{Gateway, MetricsAccess};
use hosts::{Addresses, ApiHosts, CertificateNames};
use ownership::{Dns, Ownership, watch as watch_domains};
use tokio::sync::Semaphore;
use traffic::{FairSemaphore, TrafficRules};
use urls::{UrlSettings, Urls};

use super::engine::Engine;
use super::listeners::Listeners;
use super::settings;
use super::stores::Stores;
use crate::config::Config;

/// Assembles the gateway and function URLs, and starts to check who owns custom domains.
pub(super) fn assemble(
    config: &Config,
    stores: Stores,
    engine: Engine,
    listeners: &Listeners,
) -> (Arc<Gateway>, Arc<Urls>) {
    let public_url = config.api.public_url.as_deref();
    let addresses = Addresses::new(
        &config.api.region,
        &config.urls.url_domain,
        public_url,
        listeners.address,
    );
    let addresses = Arc::new(addresses.with_paths(config.urls.url_paths));
    let hosts = Arc::new(api_hosts(config, listeners.certificate.clone()));
    let ownership = Arc::new(Ownership::new(
        config.urls.domain_allow.clone(),
        &stores.master,
        Dns::new(&config.urls.domain_resolvers),
        config.urls.domain_grace,
    ));
    tokio::spawn(watch_domains(
        ownership.clone(),
        stores.catalog.clone(),
        config.urls.domain_check,
    ));
    let settings = UrlSettings {
        addresses: addresses.clone(),
        hosts: hosts.clone(),
        ownership: ownership.clone(),
        errors: config.urls.url_errors,
    };
    let urls = Arc::new(Urls::new(
        settings,
        engine.limits.clone(),
        stores.catalog.clone(),
        engine.ingest.clone(),
        stores.access.clone(),
    ));
    let gateway = Gateway {
        region: config.api.region.clone(),
        public_url: config.api.public_url.clone(),
        monitoring: MetricsAccess {
            token: config.api.metrics_token.clone(),
            separate_listener: listeners.metrics.is_some(),
        },
        access: stores.access.clone(),
        control: Control {
            access: stores.access,
            catalog: stores.catalog.clone(),
            limits: engine.limits.clone(),
            objects: ObjectSource::new(stores.objects),
            packages: stores.packages.clone(),
            worker: engine.worker.clone(),
            builds: engine.builds,
            runner: engine.runner.clone(),
            weekday_zero: config.events.cron_weekday_zero,
            driver: engine.driver.clone(),
            provisioner: engine.provisioner,
            queue: stores.queue.clone(),
            log: stores.log.clone(),
            hosts,
            ownership,
            purge: engine.purge,
        },
        signature_v1: config.access.signature_v1,
        catalog: stores.catalog,
        packages: stores.packages,
        queue: stores.queue,
        log: stores.log,
        metrics: stores.metrics,
        exporter: stores.exporter,
        bounds: Arc::new(gateway_scf::bounds(&engine.limits)),
        limits: engine.limits,
        ingest: engine.ingest,
        runner: engine.runner,
        receivers: engine.receivers,
        driver: engine.driver,
        worker: engine.worker,
        addresses,
        body_memory: FairSemaphore::new(TrafficRules::bodies(&settings::traffic(config))),
        forms: Semaphore::new(1),
    };
    (Arc::new(gateway), urls)
}

/// Returns the host names of this installation. They include the machine's name, which clients on its network use.
fn api_hosts(config: &Config, certificate: CertificateNames) -> ApiHosts {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let patterns = config.api.api_hosts.iter().cloned();
    let patterns: Vec<_> = patterns.chain(machine.trim().parse()).collect();
    let buckets = config.buckets.iter().flat_map(|buckets| &buckets.domains);
    let zones = buckets.chain([&config.urls.url_domain]).map(String::as_str);
    ApiHosts::new(
        &patterns,
        config.api.public_url.as_deref(),
        zones,
        certificate,
    )
}
