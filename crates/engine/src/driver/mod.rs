//! Carries out the decisions of [`dispatch`]: starts, freezes and stops instances, and hands requests to them.
//!
//! One lock guards the machine and its tables. It is held for one step and never across an await; effects are performed
//! after its release. Only freezing depends on the order of effects: a step records the desired state of an instance
//! under the lock, and each thread applies the latest one.

mod acquire;
mod assigned;
mod build;
mod builds;
mod core;
mod slot;
mod starts;
mod types;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dispatch::{Limit, MachineEvent, PoolStats, Time};
use model::{AccountId, Function, FunctionKey, Serving};
use tokio::sync::Notify;
use tracing::info;
use worker::{InstanceSpec, PlatformInfo, Worker};

use self::core::{Core, DriverAction};

pub use self::assigned::Assigned;
pub(crate) use self::assigned::{INSTANCES_MAX, Stopper};
pub use self::build::Build;
pub(crate) use self::types::ProvisionedStatus;
pub use self::types::{
    AcquireError, AcquireOptions, CompletedRun, LivePool, OpenError, Settings, StartFailure,
};

/// Shared handle on the driver.
#[derive(Clone, Debug)]
pub struct Driver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    worker: Arc<Worker>,
    settings: Settings,
    started_at: Instant,
    timer_changed: Notify,
}

impl Driver {
    /// Starts the driver. Must be called within a tokio runtime.
    pub fn start(worker: Arc<Worker>, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(settings.dispatch)),
            worker,
            settings,
            started_at: Instant::now(),
            timer_changed: Notify::new(),
        });
        let driver = Self { shared };
        tokio::spawn(driver.clone().run_timer());
        driver
    }

    /// Returns the pool of a version's current revision, if it is open.
    pub(crate) fn live(&self, serving: &Serving<'_>) -> Option<Arc<LivePool>> {
        self.core().live(serving)
    }

    /// Opens the pool of a version's current revision and retires that of an older one.
    pub async fn open(&self, serving: &Serving<'_>) -> Result<Arc<LivePool>, OpenError> {
        let function = serving.function;
        let code = serving.code.ok_or(OpenError::NoCode)?;
        let served = self.shared.worker.interpreters().serve(function.runtime)?;
        let config = serving.config;
        let notes = served.note(function.runtime).into_iter();
        let notes: Vec<_> = notes
            .chain(self.shared.worker.warning().map(str::to_owned))
            .collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        let spec = Arc::new(InstanceSpec {
            function: function.key.clone(),
            version: serving.version,
            kind: function.kind,
            runtime: function.runtime,
            handler: config.handler.clone(),
            memory: config.memory,
            timeout: Duration::from_secs(config.timeout.get().into()),
            init_timeout: Duration::from_secs(config.init_timeout.get().into()),
            environment: config
                .environment
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            role: config.role.clone(),
            public_net: config.public_net,
            silence: config
                .web
                .websocket_idle
                .map(|seconds| Duration::from_secs(seconds.into())),
            code: code.tree.clone(),
            layers: config
                .layers
                .iter()
                .map(|layer| layer.package.clone())
                .collect(),
            platform: Arc::new(PlatformInfo {
                uin: self.shared.settings.access.uin(function.key.account),
                ..PlatformInfo::clone(&self.shared.settings.platform)
            }),
        });
        self.shared.worker.prepare_for(&spec).await?;
        let now = self.now();
        let mut core = self.core();
        let live = core.open(now, serving, spec, note, &self.shared.settings);
        self.perform(core);
        Ok(live)
    }

    /// Retires the pools of a deleted or updated function that do not serve a version of `keep`.
    pub(crate) fn retire(&self, function: &FunctionKey, keep: Option<&Function>) {
        let now = self.now();
        let mut core = self.core();
        core.retire(now, function, keep);
        self.perform(core);
    }

    /// Retires all pools of an account and stops its instances, whatever they are doing. Returns the number of pools
    /// whose instances have yet to end.
    pub fn end_account(&self, account: AccountId) -> usize {
        let now = self.now();
        let mut core = self.core();
        let left = core.end_account(now, account);
        self.perform(core);
        left
    }

    /// Updates a function's reserved memory, MB. `read` runs under the lock, as in [`Driver::total`].
    pub fn reserve(&self, function: &FunctionKey, read: impl FnOnce() -> Option<u32>) {
        let now = self.now();
        let mut core = self.core();
        core.reserve(now, function, read().map(u64::from));
        self.perform(core);
    }

    /// Updates the quota of an account, MB. `read` runs under the lock, so that concurrent updates cannot apply an old
    /// value last.
    pub fn total(&self, account: AccountId, read: impl FnOnce() -> u32) {
        let now = self.now();
        let mut core = self.core();
        core.total(now, dispatch::AccountId(account.0), read().into());
        self.perform(core);
    }

    /// Returns an account's unreserved quota, MB.
    pub(crate) fn unreserved_mb(&self, account: AccountId) -> u64 {
        self.core().unreserved_mb(dispatch::AccountId(account.0))
    }

    /// Sets the provisioned minimum of a version.
    pub(crate) async fn provision(
        &self,
        serving: &Serving<'_>,
        provisioned_min: usize,
    ) -> Result<(), OpenError> {
        if self.live(serving).is_none() {
            if provisioned_min == 0 {
                return Ok(());
            }
            self.open(serving).await?;
        }
        let now = self.now();
        let mut core = self.core();
        core.provision(now, serving, provisioned_min);
        self.perform(core);
        Ok(())
    }

    /// Returns the status of a version's provisioned instances, if its pool is open.
    pub(crate) fn provisioned_status(&self, serving: &Serving<'_>) -> Option<ProvisionedStatus> {
        self.core().provisioned_status(serving)
    }

    /// Returns the peak concurrency of a version since the last call.
    pub(crate) fn take_peak(&self, serving: &Serving<'_>) -> usize {
        self.core().take_peak(serving)
    }

    /// Returns the memory that provisioned instances may hold on this node, MB.
    pub fn provisionable_mb(&self) -> u32 {
        let mb = self.core().provisionable_mb();
        u32::try_from(mb).unwrap_or(u32::MAX)
    }

    /// Updates the number of accounts. `read` runs under the lock, so that concurrent updates cannot apply an old value
    /// last.
    pub fn accounts(&self, read: impl FnOnce() -> usize) {
        let now = self.now();
        let mut core = self.core();
        let count = read();
        core.step(now, MachineEvent::Accounts { count });
        self.perform(core);
    }

    /// Stops accepting requests and waits for running ones, at most for `within`. Returns whether all have ended.
    pub async fn drain(&self, within: Duration) -> bool {
        self.step(MachineEvent::Drain);
        self.release_builds();
        info!(
            instances = self.totals().busy,
            "waiting for running requests"
        );
        let emptied = self.core().emptied();
        let empty = async {
            loop {
                let told = emptied.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if self.core().is_empty() {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(within, empty).await.is_ok()
    }

    /// Returns the counts of instances and waiting requests.
    pub fn totals(&self) -> PoolStats {
        self.core().totals()
    }

    /// Returns the specifications of all open pools.
    pub(crate) fn specs_in_use(&self) -> Vec<Arc<InstanceSpec>> {
        self.core().specs()
    }

    fn now(&self) -> Time {
        Time(self.shared.started_at.elapsed().as_micros() as u64)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A test counts these lines to check how often a warm call takes the lock.
        #[cfg(debug_assertions)]
        tracing::trace!("driver locks");
        self.shared
            .core
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, event: MachineEvent) {
        let now = self.now();
        let mut core = self.core();
        core.step(now, event);
        self.perform(core);
    }

    /// Releases the lock and performs the effects of the last steps.
    fn perform(&self, mut core: MutexGuard<'_, Core>) {
        if !core.has_actions() {
            return;
        }
        let acts = core.take_actions();
        drop(core);
        for perform in acts {
            match perform {
                DriverAction::Start {
                    instance,
                    live,
                    provisioned,
                } => {
                    tokio::spawn(self.clone().start_instance(instance, live, provisioned));
                }
                DriverAction::ApplyFreeze(slot) => slot.apply_freeze(),
                DriverAction::Stop(slot) => slot.instance.stop(),
                DriverAction::Timer => self.shared.timer_changed.notify_one(),
            }
        }
    }

    /// Wakes the machine whenever it asked for it.
    async fn run_timer(self) {
        loop {
            let next = self.core().wake_at();
            let changed = self.shared.timer_changed.notified();
            match next {
                None => changed.await,
                Some(at) => {
                    let at = self.shared.started_at + Duration::from_micros(at.0);
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {
                            let now = self.now();
                            let mut core = self.core();
                            core.wake(now);
                            self.perform(core);
                        }
                        () = changed => {}
                    }
                }
            }
        }
    }
}

/// Returns the name of a limit in SCF's terms.
pub(crate) fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Group => "reserved quota",
        Limit::Account => "region unreserved quota",
        Limit::Node => "node memory",
        Limit::Rate => "account start rate",
        Limit::Starting => "start slots",
    }
}
