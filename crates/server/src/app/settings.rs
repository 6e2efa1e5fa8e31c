//! The settings of the parts, from the configuration.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use dispatch::events::{QueueLimits, RetryPolicy};
use dispatch::schedule::ScheduleConfig;
use engine::builds::BuildSettings;
use engine::index_proxy::IndexProxy;
use engine::{driver, runner};
use events::Budget;
use model::Language;
use traffic::TrafficSettings;
use triggers::TimerSettings;
use worker::{InstallSettings, Interpreters, PackageStore, PlatformInfo, ZygoteRenewal};

use super::error::StartError;
use super::host::max_instances_by_open_files;
use crate::claims::Claim;
use crate::config::{BuildNetwork, Config};

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

pub(super) fn worker(
    config: &Config,
    packages: PackageStore,
    virga: PathBuf,
    claim: &Claim,
) -> Result<worker::Config, StartError> {
    let (uid_base, uid_count) = claim.users;
    let directory = config.api.data.join("run");
    // Roots are bind-mounted from here, so the path must be absolute.
    let step = "create the run directory";
    std::fs::create_dir_all(&directory).map_err(StartError::io(step))?;
    let step = "resolve the run directory";
    let directory = directory.canonicalize().map_err(StartError::io(step))?;
    Ok(worker::Config {
        directory,
        virga,
        cgroup: claim.cgroup.clone(),
        claim: claim.for_warden(),
        interpreters: Interpreters::find(
            &[
                (Language::Python, &config.instances.python[..]),
                (Language::Node, &config.instances.node[..]),
            ],
            config.instances.runtime_fallback,
        ),
        packages,
        uid_base,
        uid_count: uid_count.min(max_instances_by_open_files()),
        prewarm: config.instances.prewarm,
        renewal: ZygoteRenewal {
            forks: config.instances.zygote_forks,
            age: config.instances.zygote_age,
        },
        limits: config.limits.clone(),
        isolation: config.sandbox.isolation,
        authority: None,
        tmp_total_bytes: config.sandbox.tmp_total_mb.map(|mb| mb << 20),
    })
}

pub(super) fn driver(config: &Config, access: Access, platform: PlatformInfo) -> driver::Settings {
    let headroom = config.instances.headroom();
    driver::Settings {
        dispatch: dispatch::Config {
            account_mb: config.limits.concurrency_mb.into(),
            node_mb: config.instances.node_memory_mb,
            headroom_mb: headroom.total_mb,
            first_mb: headroom.per_account_mb,
            max_starting: config.instances.max_starting,
            max_waiting: config.instances.max_waiting,
            max_start_attempts: START_ATTEMPTS,
            short_request_concurrency: config.instances.short_request_concurrency,
            starts_per_minute: config.limits.scale_out_per_minute,
            yield_after: YIELD_AFTER.as_micros() as u64,
        },
        keep_alive: config.instances.keep_alive,
        freeze_after: config.instances.freeze_after_ms,
        wait: config.instances.wait,
        platform: Arc::new(platform),
        call_chains: access.call_chains().clone(),
        access,
        role_session: config.access.role_session,
    }
}

pub(super) fn event_budget(config: &Config) -> Budget {
    Budget {
        bytes: config.events.event_store_mb << 20,
        history: EVENT_HISTORY,
        history_events: config.events.event_history,
        usage: config.events.usage_retention_days,
    }
}

pub(super) fn triggers(config: &Config) -> triggers::Settings {
    triggers::Settings {
        data: config.api.data.clone(),
        timers: TimerSettings {
            terms: ScheduleConfig {
                zone: config.events.cron_zone.clone(),
                missed: config.events.timer_missed,
                grace: config.events.timer_grace.as_secs() as i64,
            },
            weekday_zero: config.events.cron_weekday_zero,
        },
        event_sources: config.event_sources.clone(),
    }
}

pub(super) fn events(config: &Config, access: Access) -> runner::Settings {
    let microseconds = |time: Duration| time.as_micros() as u64;
    runner::Settings {
        pacing: QueueLimits {
            window: EVENT_WINDOW,
            waiting: EVENTS_QUEUED,
            in_progress: EVENTS_RUNNING,
            pause: microseconds(config.events.event_throttled_ms),
        },
        policy: RetryPolicy {
            retries: config.limits.retry_num_max,
            ttl: u64::from(config.limits.msg_ttl_max_s) * 1_000_000,
            after_user_fault: microseconds(config.events.event_retry_ms),
            after_system_fault: microseconds(config.events.event_backoff_ms),
            max_delay: microseconds(config.events.event_backoff_max_ms),
        },
        wait: config.instances.wait.max(config.events.event_throttled_ms),
        max_depth: config.events.max_depth,
        limits: Arc::new(config.limits.clone()),
        access,
        endpoints: config.events.dead_letter_endpoints.clone(),
    }
}

pub(super) fn builds(config: &Config, index: Option<IndexProxy>) -> BuildSettings {
    let install = InstallSettings {
        timeout: config.builds.install_timeout,
        index: config
            .builds
            .install_index
            .as_ref()
            .map(|index| index.url.clone()),
        registry: config.builds.install_registry.clone(),
        directories: config.builds.install_directories.clone(),
        host_network: config.builds.install_network == BuildNetwork::Host,
    };
    BuildSettings {
        install,
        index,
        memory_mb: config.builds.install_memory_mb,
    }
}

pub(super) fn traffic(config: &Config) -> TrafficSettings {
    TrafficSettings {
        connections: config.traffic.connections,
        memory_bytes: config.traffic.traffic_memory_mb << 20,
        spool_bytes: config.traffic.spool_mb << 20,
        stall_timeout: config.traffic.stall_timeout,
        min_rate: config.traffic.min_rate,
        proxies: config.traffic.trusted_proxies.clone(),
    }
}
