//! Reconciles provisioned instances of published versions: sets the desired number in the driver whenever it changes.
//!
//! The desired number is a function of the catalog, the time and recent use. Automatic changes are not stored, so a
//! restart arrives at the same number.

mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catalog::{Catalog, FunctionChange};
use dispatch::{Limit, TRACKING_INTERVAL_S, Tracking, TrackingTarget};
use model::{Function, FunctionId, FunctionKey, Provisioned, ProvisionedPolicy, Serving, Version};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tracing::warn;

pub use self::schedule::CronClock;
use crate::driver::{Driver, ProvisionedStatus, limit_name};

/// Interval between samples of use, and between retries of a version that cannot be served.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(TRACKING_INTERVAL_S);
/// Maximum wait for a scheduled time, because the host's clock may be adjusted.
const MAX_CLOCK_WAIT: Duration = Duration::from_secs(60);
/// Wait when nothing is due.
const IDLE_WAIT: Duration = Duration::from_secs(86_400);

/// Shared handle on the provisioner.
#[derive(Clone, Debug)]
pub struct Provisioner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    catalog: Catalog,
    driver: Driver,
    clock: CronClock,
    /// State of versions beyond the catalog.
    known: Mutex<HashMap<(FunctionId, u64), VersionState>>,
}

#[derive(Debug, Default)]
struct VersionState {
    tracking: Tracking,
    sampled_at: Option<Instant>,
    /// Why the version cannot be served.
    last_error: Option<String>,
}

/// Progress of a version towards its desired number of instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvisionProgress {
    /// Desired number of instances.
    pub allocated: usize,
    /// Number of ready instances among them.
    pub available: usize,
    /// Its state.
    pub state: ProvisionState,
}

/// The state of a provisioned minimum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvisionState {
    /// All instances are ready.
    Done,
    /// With the reason for the wait.
    InProgress(String),
    /// With the reason. It is retried periodically.
    Failed(String),
}

impl Provisioner {
    /// Starts to reconcile all versions in the catalog, now and after each change.
    pub fn start(catalog: Catalog, driver: Driver, clock: CronClock) -> Self {
        let shared = Shared {
            catalog,
            driver,
            clock,
            known: Mutex::default(),
        };
        let provisioner = Self {
            shared: Arc::new(shared),
        };
        tokio::spawn(provisioner.clone().run());
        provisioner
    }

    /// Returns the progress of a version, or none if nothing is provisioned.
    pub fn progress(&self, function: &Function, number: u64) -> Option<ProvisionProgress> {
        let provisioned = function.versions.get(&number)?.provisioned.as_ref()?;
        let serving = function.serving(Version::Number(number))?;
        let provisioned_status = self.shared.driver.provisioned_status(&serving);
        let last_error = self
            .known()
            .get(&(function.id.clone(), number))
            .and_then(|known| known.last_error.clone());
        let desired = match &provisioned.policy {
            ProvisionedPolicy::Fixed { .. } => self.desired(&serving, provisioned),
            // The last decision applies until the next sample.
            ProvisionedPolicy::Tracking { min, max, .. } => {
                let scheduled = provisioned_status
                    .as_ref()
                    .map_or(0, |provisioned_status| provisioned_status.provisioned_min);
                scheduled.clamp(*min as usize, *max as usize)
            }
        };
        Some(progress(function, desired, provisioned_status, last_error))
    }

    async fn run(self) {
        let mut changes = self.shared.catalog.subscribe();
        // Time of the next reconciliation of each function with provisioned versions.
        let mut due = BTreeMap::new();
        self.reconcile_all(&mut due).await;
        loop {
            let next = due.values().min().copied();
            let next = next.unwrap_or_else(|| Instant::now() + IDLE_WAIT);
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(FunctionChange { key, .. }) => self.reconcile(&key, &mut due).await,
                    // Changes were missed.
                    Err(RecvError::Lagged(_)) => self.reconcile_all(&mut due).await,
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    let late = due.iter().filter(|(_, at)| **at <= now);
                    let late: Vec<FunctionKey> = late.map(|(key, _)| key.clone()).collect();
                    for key in late {
                        self.reconcile(&key, &mut due).await;
                    }
                }
            }
        }
    }

    async fn reconcile_all(&self, due: &mut BTreeMap<FunctionKey, Instant>) {
        for stored in self.shared.catalog.all_functions() {
            self.reconcile(&stored.value.key, due).await;
        }
    }

    /// Reconciles all versions of a function and notes when to do so again.
    async fn reconcile(&self, key: &FunctionKey, due: &mut BTreeMap<FunctionKey, Instant>) {
        let was = due.remove(key).is_some();
        let Some(stored) = self.shared.catalog.function(key) else {
            return;
        };
        let function = &stored.value;
        let is_provisioned = |number: &u64| {
            let published = function.versions.get(number);
            published.is_some_and(|one| one.provisioned.is_some())
        };
        if !was && !function.versions.keys().any(is_provisioned) {
            return;
        }
        self.known()
            .retain(|(id, number), _| *id != function.id || is_provisioned(number));
        let mut again = None;
        for (number, published) in &function.versions {
            let Some(serving) = function.serving(Version::Number(*number)) else {
                continue;
            };
            let Some(provisioned) = &published.provisioned else {
                self.provision(&serving, 0).await;
                continue;
            };
            let provisioned_min = self.desired(&serving, provisioned);
            let served = self.provision(&serving, provisioned_min).await;
            let next = self.next(provisioned, served);
            again = [again, next].into_iter().flatten().min();
            // Keep the function even without a due time, so that its deletion is noticed.
            due.insert(
                key.clone(),
                again.unwrap_or_else(|| Instant::now() + IDLE_WAIT),
            );
        }
    }

    /// Returns the desired number of instances of a version.
    fn desired(&self, serving: &Serving<'_>, provisioned: &Provisioned) -> usize {
        match &provisioned.policy {
            ProvisionedPolicy::Fixed { instances, actions } => {
                let (since, now) = (provisioned.set / 1000, clock::now_ms() / 1000);
                let scheduled = self.shared.clock.scheduled(actions, since, now);
                scheduled.unwrap_or(*instances) as usize
            }
            ProvisionedPolicy::Tracking { percent, min, max } => {
                let target = TrackingTarget {
                    percent: *percent,
                    min: *min as usize,
                    max: *max as usize,
                };
                let mut known = self.known();
                let known = known.entry(version_key(serving)).or_default();
                let late = known
                    .sampled_at
                    .is_none_or(|at| at.elapsed() >= RECONCILE_INTERVAL);
                if !late {
                    return known.tracking.provisioned_min(&target);
                }
                known.sampled_at = Some(Instant::now());
                let peak = self.shared.driver.take_peak(serving);
                known.tracking.add_sample(peak, &target)
            }
        }
    }

    /// Returns when to reconcile a version again.
    fn next(&self, provisioned: &Provisioned, served: bool) -> Option<Instant> {
        let wait = match &provisioned.policy {
            ProvisionedPolicy::Fixed { actions, .. } if served => {
                let now = clock::now_ms();
                let at = self.shared.clock.next(actions, now / 1000)?;
                let wait = at.saturating_mul(1000).saturating_sub(now);
                Duration::from_millis(wait.try_into().unwrap_or(0)).min(MAX_CLOCK_WAIT)
            }
            _ => RECONCILE_INTERVAL,
        };
        Some(Instant::now() + wait)
    }

    /// Applies the desired number. Returns whether the version can be served.
    async fn provision(&self, serving: &Serving<'_>, provisioned_min: usize) -> bool {
        let Shared {
            catalog, driver, ..
        } = &*self.shared;
        let opens = driver.live(serving).is_none();
        let provisioned = driver.provision(serving, provisioned_min).await;
        let key = &serving.function.key;
        if opens {
            // It may have been changed or deleted before the pool existed.
            let now = catalog.function(key);
            driver.retire(key, now.as_ref().map(|stored| &stored.value));
        }
        let last_error = provisioned.err().map(|error| error.to_string());
        if let Some(error) = &last_error {
            warn!(function = %key.name, version = %serving.version, error, "failed to provision instances of a version; retrying");
        }
        let served = last_error.is_none();
        let mut known = self.known();
        match known.get_mut(&version_key(serving)) {
            Some(known) => known.last_error = last_error,
            None if served => {}
            None => {
                let fresh = VersionState {
                    last_error,
                    ..VersionState::default()
                };
                known.insert(version_key(serving), fresh);
            }
        }
        served
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(FunctionId, u64), VersionState>> {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn version_key(serving: &Serving<'_>) -> (FunctionId, u64) {
    let number = match serving.version {
        Version::Latest => 0,
        Version::Number(number) => number,
    };
    (serving.function.id.clone(), number)
}

fn progress(
    function: &Function,
    allocated: usize,
    provisioned_status: Option<ProvisionedStatus>,
    last_error: Option<String>,
) -> ProvisionProgress {
    let provisioned_min = provisioned_status
        .as_ref()
        .map_or(0, |provisioned_status| provisioned_status.provisioned_min);
    let available = provisioned_status
        .as_ref()
        .map_or(0, |provisioned_status| provisioned_status.ready)
        .min(allocated);
    let blocked_by = provisioned_status
        .as_ref()
        .and_then(|provisioned_status| provisioned_status.blocked_by);
    let last_error = last_error.or_else(|| provisioned_status?.last_error);
    let state = if provisioned_min == allocated && available == allocated {
        ProvisionState::Done
    } else if function.reserved_mb == Some(0) {
        let why = "the function is disabled: its reserved concurrency is 0 MB";
        ProvisionState::Failed(why.into())
    } else if let Some(why) = last_error {
        ProvisionState::Failed(why)
    } else {
        ProvisionState::InProgress(match blocked_by {
            None | Some(Limit::Starting | Limit::Rate) => "instances are starting".into(),
            Some(limit) => format!(
                "waiting for memory that other instances use: {} is exhausted",
                limit_name(limit)
            ),
        })
    };
    ProvisionProgress {
        allocated,
        available,
        state,
    }
}
