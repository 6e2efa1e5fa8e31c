//! Carries out the decisions of [`dispatch`]: starts, freezes and stops instances, and hands requests to them.
//!
//! One lock guards the machine and its tables. It is held for one step and never across an await; effects are performed
//! after its release. Only freezing depends on the order of effects: a step records the desired state of an instance
//! under the lock, and each thread applies the latest one.

mod build;
mod core;
mod slot;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use access::{Access, CallChains};
use dispatch::{
    InstanceId, Limit, MachineEvent, PoolId, PoolStats, Reject, StartFault, Ticket, Time,
};
use model::{
    AccountId, Function, FunctionId, FunctionKey, Outcome, RecursionDepth, Serving, StatusCode,
    Usage,
};
use telemetry::ColdStart;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};
use worker::{
    Credentials, Failure, InstanceSpec, PackageStore, PlatformInfo, RequestMetadata, StartError,
    Worker,
};

pub use self::build::Build;
use self::core::{Core, DriverAction};
use self::slot::InstanceSlot;

/// Maximum number of instances that a request is sent to when each ends before it starts the request.
pub(crate) const INSTANCES_MAX: usize = 4;

/// Configuration of the driver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The dispatcher's settings.
    pub dispatch: dispatch::Config,
    /// Idle time before an instance is evicted.
    pub keep_alive: Duration,
    /// Idle time before an instance is frozen.
    pub freeze_after: Duration,
    /// Maximum wait of a request for an instance when none is starting.
    pub wait: Duration,
    /// The platform as functions see it.
    pub platform: Arc<PlatformInfo>,
    /// Issues credentials for functions and knows their accounts' owners.
    pub access: Access,
    /// Tracks call chains by instance.
    pub call_chains: CallChains,
    /// Minimum validity of a function's credentials.
    pub role_session: Duration,
}

/// Shared handle on the driver.
#[derive(Clone, Debug)]
pub struct Driver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    worker: Arc<Worker>,
    packages: PackageStore,
    settings: Settings,
    started_at: Instant,
    timer_changed: Notify,
}

/// The open pool of a function's revision.
#[derive(Debug)]
pub struct LivePool {
    pub(crate) pool: PoolId,
    id: FunctionId,
    revision: u64,
    /// The specification of its instances.
    pub spec: Arc<InstanceSpec>,
    /// Note on the runtime or environment for the function's log.
    pub note: Option<String>,
}

impl LivePool {
    fn serves(&self, serving: &Serving<'_>) -> bool {
        self.id == serving.function.id && self.revision == serving.revision
    }
}

/// Status of a version's provisioned instances.
#[derive(Clone, Debug)]
pub(crate) struct ProvisionedStatus {
    /// Provisioned minimum.
    pub(crate) provisioned_min: usize,
    /// Ready instances, idle or busy.
    pub(crate) ready: usize,
    /// Error of the last start, if none has succeeded since.
    pub(crate) last_error: Option<String>,
    /// The limit that blocks further starts.
    pub(crate) blocked_by: Option<Limit>,
}

/// Reason why a function cannot be served.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The interpreter or the sandbox failed.
    #[error(transparent)]
    Worker(#[from] worker::Error),
    /// The package cannot be unpacked.
    #[error(transparent)]
    Package(#[from] worker::PackageError),
    /// The function has no code yet.
    #[error("the function has no code yet")]
    NoCode,
}

/// The outcome of a request, with the cost of its cold start if there was one.
#[derive(Debug)]
pub struct CompletedRun {
    /// The outcome.
    pub outcome: Outcome,
    /// The cold start, if the request waited for one.
    pub cold: Option<ColdStart>,
    /// Output while the handler was loaded.
    pub init_log: Vec<u8>,
}

/// Reason why a request was not run.
#[derive(Debug)]
pub enum AcquireError {
    /// Rejected by dispatch.
    Rejected(Reject),
    /// Its instance failed to start.
    Start(StartFailure),
}

/// Log, usage and cause of a failed start.
#[derive(Debug)]
pub struct StartFailure {
    /// The reason.
    pub failure: Failure,
    /// Output while the handler was loaded.
    pub log: Vec<u8>,
    /// The measured duration and memory.
    pub usage: Usage,
}

/// Options for acquiring an instance.
#[derive(Debug, Default)]
pub struct AcquireOptions {
    /// Maximum wait; the configured one by default.
    pub timeout: Option<Duration>,
    /// Dropped as soon as the request is assigned or queued; kept if it is rejected.
    pub(crate) on_queued: Option<oneshot::Sender<()>>,
}

/// An instance assigned to a request. Returned to its pool on drop.
pub struct Assigned {
    driver: Driver,
    slot: Arc<InstanceSlot>,
    stopper: Stopper,
    first: bool,
    /// True until a request has run on it.
    reusable: bool,
    short: Option<bool>,
    /// Whether the instance was returned to its pool.
    returned: bool,
}

impl std::fmt::Debug for Assigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assigned").finish_non_exhaustive()
    }
}

impl Driver {
    /// Starts the driver. Must be called within a tokio runtime.
    pub fn start(worker: Arc<Worker>, packages: PackageStore, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(settings.dispatch)),
            worker,
            packages,
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
        let code = serving.code.cloned().ok_or(OpenError::NoCode)?;
        let served = self.shared.worker.interpreters().serve(function.runtime)?;
        let packages = self.shared.packages.clone();
        let tree = packages.tree(&code.tree);
        let held: Vec<_> = serving
            .config
            .layers
            .iter()
            .map(|layer| layer.package.clone())
            .collect();
        let layers = if tree.is_dir() && held.is_empty() {
            None
        } else {
            let made = tokio::task::spawn_blocking(move || {
                packages.unpack(&code.tree)?;
                let merged = (!held.is_empty()).then(|| packages.merge(&held));
                merged.transpose()
            });
            made.await
                .map_err(|e| worker::Error::Setup(e.to_string()))??
        };
        let config = serving.config;
        self.shared.worker.prepare(
            function.key.account,
            function.kind,
            &served.interpreter,
            config.environment.keys().map(String::as_str),
        )?;
        let notes = served.note(function.runtime).into_iter();
        let notes: Vec<_> = notes
            .chain(self.shared.worker.warning().map(str::to_owned))
            .collect();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        let spec = Arc::new(InstanceSpec {
            function: function.key.clone(),
            version: serving.version,
            kind: function.kind,
            interpreter: served.interpreter,
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
            code: tree,
            layers,
            platform: Arc::new(PlatformInfo {
                uin: self.shared.settings.access.uin(function.key.account),
                ..PlatformInfo::clone(&self.shared.settings.platform)
            }),
        });
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

    /// Waits for an instance. Dropping the future cancels the request.
    pub async fn acquire(
        &self,
        live: &LivePool,
        waiting: &mut AcquireOptions,
    ) -> Result<Assigned, AcquireError> {
        let wait = waiting.timeout.unwrap_or(self.shared.settings.wait);
        let (ticket, given) = self.ask(live, wait);
        if !matches!(given, Ok(core::AcquireReply::Rejected(..))) {
            // The next request of the same queue may follow.
            drop(waiting.on_queued.take());
        }
        let waiting = match given {
            Ok(answer) => return self.take(answer),
            Err(waiting) => waiting,
        };
        let mut place = QueuedRequest {
            driver: self,
            ticket,
            waiting: Some(waiting),
        };
        let answer = match place.waiting.as_mut() {
            Some(waiting) => waiting.await,
            None => return Err(AcquireError::Rejected(Reject::Gone)),
        };
        place.waiting = None;
        // The sender lives in the core, which never drops it without an answer.
        self.take(answer.unwrap_or(core::AcquireReply::Rejected(Reject::Draining, None)))
    }

    fn ask(
        &self,
        live: &LivePool,
        wait: Duration,
    ) -> (
        Ticket,
        Result<core::AcquireReply, oneshot::Receiver<core::AcquireReply>>,
    ) {
        let now = self.now();
        let deadline = now.after(wait.as_micros() as u64);
        let mut core = self.core();
        let asked = core.request(now, live.pool, deadline);
        self.perform(core);
        asked
    }

    fn take(&self, answer: core::AcquireReply) -> Result<Assigned, AcquireError> {
        match answer {
            core::AcquireReply::Assigned { slot, first } => Ok(Assigned {
                driver: self.clone(),
                stopper: Stopper::of(slot.clone()),
                slot,
                first,
                reusable: true,
                short: None,
                returned: false,
            }),
            core::AcquireReply::Rejected(_, Some(failure)) => Err(AcquireError::Start(failure)),
            core::AcquireReply::Rejected(reject, None) => Err(AcquireError::Rejected(reject)),
        }
    }

    /// Stops accepting requests and waits for running ones, at most for `within`. Returns whether all have ended.
    pub async fn drain(&self, within: Duration) -> bool {
        self.step(MachineEvent::Drain);
        self.release_builds();
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

    /// Returns the package trees that open pools use.
    pub(crate) fn trees_in_use(&self) -> Vec<std::path::PathBuf> {
        self.core().trees()
    }

    fn now(&self) -> Time {
        Time(self.shared.started_at.elapsed().as_micros() as u64)
    }

    fn core(&self) -> MutexGuard<'_, Core> {
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

    async fn start_instance(self, instance: InstanceId, live: Arc<LivePool>, provisioned: bool) {
        let (pool, spec) = (live.pool, live.spec.clone());
        let credentials = self.credentials(&spec);
        let key = credentials.as_ref().map(|lent| lent.id.clone());
        match self.shared.worker.start(spec.clone(), credentials).await {
            Ok(started) => {
                let address = started.instance.address().map(IpAddr::V4);
                let member = self.shared.settings.call_chains.register(key, address);
                let slot = Arc::new(InstanceSlot::new(instance, started, provisioned, member));
                let ended = slot.instance.ended();
                let now = self.now();
                let mut core = self.core();
                core.started(now, pool, slot.clone());
                self.perform(core);
                tokio::spawn(async move {
                    ended.await;
                    slot.set_ended();
                    drop(slot);
                    self.step(MachineEvent::Ended { instance });
                });
            }
            Err(StartError::User {
                failure,
                log,
                usage,
            }) => {
                debug!(function = %spec.function.name, status = failure.status.as_u16(), "an instance failed to start");
                self.start_failed(
                    pool,
                    instance,
                    StartFault::User,
                    StartFailure {
                        failure,
                        log,
                        usage,
                    },
                );
            }
            Err(StartError::Platform(error)) => {
                warn!(function = %spec.function.name, %error, "failed to start an instance");
                let message = "the instance failed to start; see the platform's log for the cause";
                let failure = Failure::new(StatusCode::ContainerInitError, message);
                let failure = StartFailure {
                    failure,
                    log: Vec::new(),
                    usage: Usage::default(),
                };
                self.start_failed(pool, instance, StartFault::Platform, failure);
            }
        }
    }

    /// Issues credentials for one instance. The instance serves requests for half of their validity only, so that each
    /// request can end within it.
    fn credentials(&self, spec: &InstanceSpec) -> Option<Credentials> {
        let settings = &self.shared.settings;
        let name = spec.role.as_ref()?;
        let Some(role) = settings.access.role(spec.function.account, name) else {
            warn!(function = %spec.function.name, role = %name, "the role does not exist; the function gets no credentials");
            return None;
        };
        let valid_for = (settings.role_session / 2).max(settings.keep_alive + spec.timeout);
        match settings.access.issue_credentials(&role, 2 * valid_for) {
            Ok(lent) => Some(Credentials {
                id: lent.id,
                key: lent.key.reveal().to_owned(),
                token: lent.token.reveal().to_owned(),
                valid_for,
            }),
            Err(error) => {
                warn!(function = %spec.function.name, %error, "failed to issue credentials; the function gets none");
                None
            }
        }
    }

    fn start_failed(
        &self,
        pool: PoolId,
        instance: InstanceId,
        fault: StartFault,
        failure: StartFailure,
    ) {
        let now = self.now();
        let mut core = self.core();
        core.start_failed(now, pool, instance, fault, failure);
        self.perform(core);
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

/// A queued request. On drop it is cancelled, or the instance that it was just assigned is returned.
struct QueuedRequest<'a> {
    driver: &'a Driver,
    ticket: Ticket,
    waiting: Option<oneshot::Receiver<core::AcquireReply>>,
}

impl Drop for QueuedRequest<'_> {
    fn drop(&mut self) {
        let Some(mut waiting) = self.waiting.take() else {
            return;
        };
        let now = self.driver.now();
        let mut core = self.driver.core();
        core.cancel(now, self.ticket);
        self.driver.perform(core);
        if let Ok(answer) = waiting.try_recv() {
            drop(self.driver.take(answer));
        }
    }
}

/// Stops the instance of a request while the request owns it.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Arc<Mutex<Option<Arc<InstanceSlot>>>>);

impl Stopper {
    fn of(slot: Arc<InstanceSlot>) -> Self {
        Self(Arc::new(Mutex::new(Some(slot))))
    }

    /// Kills the instance, or sends SIGTERM to its processes. Has no effect after the request has ended.
    pub(crate) fn stop(&self, gracefully: bool) {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = &*slot else {
            return;
        };
        if gracefully {
            slot.instance.terminate();
        } else {
            slot.instance.stop();
        }
    }

    /// The request has moved to another instance.
    fn follow(&self, slot: Arc<InstanceSlot>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
    }

    /// The request no longer owns an instance.
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Assigned {
    /// Returns the instance.
    pub(crate) fn instance(&self) -> &worker::Instance {
        &self.slot.instance
    }

    /// Begins a request on an instance that may serve others, too. Thaws it if it was frozen while idle.
    pub fn begin(&self, depth: RecursionDepth) {
        self.slot.apply_freeze();
        self.slot.runs(depth);
        self.slot.begin_billing();
    }

    /// Ends a request. Returns the billed time: since the last end, or since the first concurrent request began.
    pub fn end(&self) -> Duration {
        self.slot.end_billing()
    }

    /// Returns the cost and log of the cold start if this is the instance's first request.
    pub fn first(&self) -> Option<(ColdStart, Vec<u8>)> {
        if !self.first {
            return None;
        }
        let (cold, log) = self.slot.cold();
        cold.map(|cold| (cold, log))
    }

    /// Marks the instance as not reusable.
    pub(crate) fn mark_unusable(&mut self) {
        self.reusable = false;
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs a request and passes its outcome to `finish`, even if the caller has gone away.
    ///
    /// An instance may end on its own while an event is being sent. An event that did not start goes to another instance.
    pub fn run<T: Send + 'static>(
        self,
        live: Arc<LivePool>,
        metadata: RequestMetadata,
        depth: RecursionDepth,
        event: bytes::Bytes,
        recycle: bool,
        finish: impl FnOnce(CompletedRun) -> T + Send + 'static,
    ) -> Detached<T> {
        Detached(Some(Box::pin(async move {
            let mut assigned = self;
            for _ in 1..INSTANCES_MAX {
                assigned.slot.runs(depth);
                let (ran, started) = assigned.invoke(&metadata, &event, recycle).await;
                if started {
                    return finish(ran);
                }
                debug!(request = %metadata.request, "an instance ended before it started an event; the event goes to another instance");
                if !assigned.replace(&live).await {
                    return finish(ran);
                }
            }
            assigned.slot.runs(depth);
            finish(assigned.invoke(&metadata, &event, recycle).await.0)
        })))
    }

    /// Returns this instance and waits for another. The stopper then stops the new one. Returns false if there is none.
    pub async fn replace(&mut self, live: &LivePool) -> bool {
        self.give_back();
        let mut options = AcquireOptions::default();
        let Ok(mut other) = self.driver.acquire(live, &mut options).await else {
            return false;
        };
        std::mem::swap(self, &mut other);
        // `other` is now the one that was returned.
        std::mem::swap(&mut self.stopper, &mut other.stopper);
        self.stopper.follow(self.slot.clone());
        true
    }

    /// Returns the instance to its pool, once.
    fn give_back(&mut self) {
        if std::mem::replace(&mut self.returned, true) {
            return;
        }
        self.stopper.forget();
        let now = self.driver.now();
        let mut core = self.driver.core();
        core.finished(now, &self.slot, self.reusable, self.short);
        self.driver.perform(core);
    }

    /// Runs a request. Returns its outcome and whether the event started. With `recycle`, an instance whose
    /// request failed is stopped.
    async fn invoke(
        &mut self,
        metadata: &RequestMetadata,
        event: &[u8],
        recycle: bool,
    ) -> (CompletedRun, bool) {
        // It may have been frozen while idle.
        self.slot.apply_freeze();
        let invoked = self.slot.instance.invoke(metadata, event).await;
        let (cold, init_log) = if self.first && invoked.started {
            self.slot.cold()
        } else {
            (None, Vec::new())
        };
        self.reusable = invoked.reusable;
        self.short = invoked.short_requests;
        if recycle && self.reusable && invoked.outcome.status != StatusCode::Ok {
            self.slot.instance.stop();
            self.slot.instance.ended().await;
            self.reusable = false;
        }
        let ran = CompletedRun {
            outcome: invoked.outcome,
            cold,
            init_log,
        };
        (ran, invoked.started)
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A future that is spawned to completion when it is dropped early.
pub struct Detached<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> std::fmt::Debug for Detached<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Pending; // Polled again after completion.
        };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(future);
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
