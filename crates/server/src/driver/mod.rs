//! Carries out what [`dispatch`] decides: asks it, starts, freezes and stops instances, and hands requests over.
//!
//! One lock guards the machine and the tables beside it; it is held for a step and never while anything waits. What
//! a step decides is done after the lock is released. Freezing is the one thing whose order matters: a step notes
//! under the lock what an instance should be, and whoever acts looks at the latest note.

mod build;
mod core;
mod slot;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dispatch::{
    InstanceId, Limit, MachineEvent, PoolId, PoolStats, Reject, StartFault, Ticket, Time,
};
use model::{
    AccountId, Function, FunctionId, FunctionKey, Outcome, RequestId, Serving, StatusCode, Usage,
};
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};
use worker::{Credentials, Failure, InstanceSpec, PackageStore, Place, StartError, Worker};

pub(crate) use self::build::Build;
use self::core::{Core, DriverAction};
use self::slot::InstanceSlot;
use crate::access::Access;
use crate::call_chains::{CallChains, RecursionDepth};
use crate::telemetry::ColdStart;

/// To how many instances an event is given that end, one after the other, before they take it.
const INSTANCES_MAX: usize = 4;

/// What the driver is set up with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) dispatch: dispatch::Config,
    pub(crate) keep_alive: Duration,
    pub(crate) freeze_after: Duration,
    /// How long a request waits for an instance where none is on its way.
    pub(crate) wait: Duration,
    pub(crate) place: Arc<Place>,
    /// Who functions are told they belong to.
    pub(crate) access: Access,
    /// Where instances are entered.
    pub(crate) call_chains: CallChains,
    /// How long credentials of functions are good, at least.
    pub(crate) role_session: Duration,
}

/// A handle on the driver. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    worker: Arc<Worker>,
    packages: PackageStore,
    settings: Settings,
    begun: Instant,
    timer_changed: Notify,
}

/// A function's revision that serves.
#[derive(Debug)]
pub(crate) struct LivePool {
    pub(crate) pool: PoolId,
    id: FunctionId,
    revision: u64,
    pub(crate) spec: Arc<InstanceSpec>,
    /// What the log should say of how it is served.
    pub(crate) note: Option<String>,
}

impl LivePool {
    fn serves(&self, serving: &Serving<'_>) -> bool {
        self.id == serving.function.id && self.revision == serving.revision
    }
}

/// Instances of a version that are kept ahead of need.
#[derive(Clone, Debug)]
pub(crate) struct ProvisionedStatus {
    /// As many should be there.
    pub(crate) provisioned_min: usize,
    /// As many of them are, whether they idle or serve.
    pub(crate) ready: usize,
    /// Why the last start failed, if none has succeeded since.
    pub(crate) last_error: Option<String>,
    /// What further ones wait for.
    pub(crate) blocked_by: Option<Limit>,
}

/// Why a function cannot be served.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Worker(#[from] worker::Error),
    #[error(transparent)]
    Package(#[from] worker::PackageError),
    #[error("the function has no code yet")]
    NoCode,
}

/// A request that ran, with what its start cost if it was the first of its instance.
#[derive(Debug)]
pub(crate) struct CompletedRun {
    pub(crate) outcome: Outcome,
    pub(crate) cold: Option<ColdStart>,
    pub(crate) init_log: Vec<u8>,
}

/// A request that did not run.
#[derive(Debug)]
pub(crate) enum AcquireError {
    /// Dispatch found no place for it.
    Rejected(Reject),
    /// Its instance could not be started.
    Start(StartFailure),
}

/// What is left of a failed start.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) failure: Failure,
    pub(crate) log: Vec<u8>,
    pub(crate) usage: Usage,
}

/// How a request waits in line.
#[derive(Debug, Default)]
pub(crate) struct AcquireOptions {
    /// How long; else as any request does.
    pub(crate) timeout: Option<Duration>,
    /// Dropped as soon as the request has its place; left alone where it is refused one.
    pub(crate) on_queued: Option<oneshot::Sender<()>>,
}

/// An instance that is a request's own. It goes back when this is dropped.
pub(crate) struct Assigned {
    driver: Driver,
    slot: Arc<InstanceSlot>,
    stopper: Stopper,
    first: bool,
    /// As long as nothing was run on it, it is.
    reusable: bool,
    short: Option<bool>,
}

impl Driver {
    /// Starts the driver. Must be called within a tokio runtime.
    pub(crate) fn start(worker: Arc<Worker>, packages: PackageStore, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            core: Mutex::new(Core::new(settings.dispatch)),
            worker,
            packages,
            settings,
            begun: Instant::now(),
            timer_changed: Notify::new(),
        });
        let driver = Self { shared };
        tokio::spawn(driver.clone().keep_time());
        driver
    }

    /// The pool that serves a version as it is now, if it is open.
    pub(crate) fn live(&self, serving: &Serving<'_>) -> Option<Arc<LivePool>> {
        self.core().live(serving)
    }

    /// Opens the pool that serves a version as it is now, and retires an older one.
    pub(crate) async fn open(&self, serving: &Serving<'_>) -> Result<Arc<LivePool>, OpenError> {
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
            place: Arc::new(Place {
                uin: self.shared.settings.access.uin(function.key.account),
                ..Place::clone(&self.shared.settings.place)
            }),
        });
        let now = self.now();
        let mut core = self.core();
        let live = core.open(now, serving, spec, note, &self.shared.settings);
        self.act(core);
        Ok(live)
    }

    /// A function is gone, or is now `keep`: the pools of what it was take no new requests.
    pub(crate) fn retire(&self, function: &FunctionKey, keep: Option<&Function>) {
        let now = self.now();
        let mut core = self.core();
        core.retire(now, function, keep);
        self.act(core);
    }

    /// Ends all that runs for an account, whatever it is at. Gives how many of its pools are left, whose instances still have to
    /// end.
    pub(crate) fn end_account(&self, account: AccountId) -> usize {
        let now = self.now();
        let mut core = self.core();
        let left = core.end_account(now, account);
        self.act(core);
        left
    }

    /// Memory is set aside for a function, or no longer. How much is read, MB, as in [`Driver::total`].
    pub(crate) fn reserve(&self, function: &FunctionKey, read: impl FnOnce() -> Option<u32>) {
        let now = self.now();
        let mut core = self.core();
        core.reserve(now, function, read().map(u64::from));
        self.act(core);
    }

    /// What an account's instances may have together has changed. It is read, MB, where no other change comes between.
    pub(crate) fn total(&self, account: AccountId, read: impl FnOnce() -> u32) {
        let now = self.now();
        let mut core = self.core();
        core.total(now, dispatch::AccountId(account.0), read().into());
        self.act(core);
    }

    /// What an account's functions share for which nothing is set aside, MB.
    pub(crate) fn unreserved_mb(&self, account: AccountId) -> u64 {
        self.core().unreserved_mb(dispatch::AccountId(account.0))
    }

    /// Keeps so many instances of a version from now on, which it starts ahead of need.
    pub(crate) async fn keep(
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
        core.keep(now, serving, provisioned_min);
        self.act(core);
        Ok(())
    }

    /// What is kept of a version, if it is served.
    pub(crate) fn provisioned_status(&self, serving: &Serving<'_>) -> Option<ProvisionedStatus> {
        self.core().provisioned_status(serving)
    }

    /// The most requests at a time that a version had since this was last asked.
    pub(crate) fn take_peak(&self, serving: &Serving<'_>) -> usize {
        self.core().take_peak(serving)
    }

    /// Memory that this node's instances may have together when they are kept ahead of need, MB.
    pub(crate) fn provisionable_mb(&self) -> u32 {
        let mb = self.core().provisionable_mb();
        u32::try_from(mb).unwrap_or(u32::MAX)
    }

    /// How many accounts there are has changed; it is read where no other change comes between.
    pub(crate) fn accounts(&self, read: impl FnOnce() -> usize) {
        let now = self.now();
        let mut core = self.core();
        let count = read();
        core.step(now, MachineEvent::Accounts { count });
        self.act(core);
    }

    /// Waits for an instance. Dropping this future gives the place in line up.
    pub(crate) async fn acquire(
        &self,
        live: &LivePool,
        waiting: &mut AcquireOptions,
    ) -> Result<Assigned, AcquireError> {
        let wait = waiting.timeout.unwrap_or(self.shared.settings.wait);
        let (ticket, given) = self.ask(live, wait);
        if !matches!(given, Ok(core::AcquireReply::Rejected(..))) {
            // Whoever waits to be behind it may come.
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
        self.act(core);
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
            }),
            core::AcquireReply::Rejected(_, Some(failure)) => Err(AcquireError::Start(failure)),
            core::AcquireReply::Rejected(reject, None) => Err(AcquireError::Rejected(reject)),
        }
    }

    /// Stops taking requests, and waits until all that runs has ended or the time is over. Says whether it has.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        self.step(MachineEvent::Drain);
        self.forget_builds();
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

    /// Instances and waiting requests.
    pub(crate) fn totals(&self) -> PoolStats {
        self.core().totals()
    }

    /// Trees that living pools run from.
    pub(crate) fn trees_in_use(&self) -> Vec<std::path::PathBuf> {
        self.core().trees()
    }

    fn now(&self) -> Time {
        Time(self.shared.begun.elapsed().as_micros() as u64)
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
        self.act(core);
    }

    /// Does what the last steps decided, after the lock is released.
    fn act(&self, mut core: MutexGuard<'_, Core>) {
        if !core.has_acts() {
            return;
        }
        let acts = core.take_acts();
        drop(core);
        for act in acts {
            match act {
                DriverAction::Start {
                    instance,
                    live,
                    provisioned,
                } => {
                    tokio::spawn(self.clone().start_instance(instance, live, provisioned));
                }
                DriverAction::Settle(slot) => slot.settle(),
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
                self.act(core);
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
                debug!(function = %spec.function.name, status = failure.status.as_u16(), "an instance did not start");
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
                warn!(function = %spec.function.name, %error, "an instance could not be started");
                let message = "the instance could not be started; the platform's log says why";
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

    /// What an instance acts with, made for it alone. It serves no longer than half of their time, so that whatever it
    /// begins it can end with them.
    fn credentials(&self, spec: &InstanceSpec) -> Option<Credentials> {
        let settings = &self.shared.settings;
        let name = spec.role.as_ref()?;
        let Some(role) = settings.access.role(spec.function.account, name) else {
            warn!(function = %spec.function.name, role = %name, "the role is gone; the function has no credentials");
            return None;
        };
        let good_for = (settings.role_session / 2).max(settings.keep_alive + spec.timeout);
        match settings.access.lend(&role, 2 * good_for) {
            Ok(lent) => Some(Credentials {
                id: lent.id,
                key: lent.key.reveal().to_owned(),
                token: lent.token.reveal().to_owned(),
                good_for,
            }),
            Err(error) => {
                warn!(function = %spec.function.name, %error, "credentials cannot be made");
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
        self.act(core);
    }

    /// Sends a wake-up whenever the machine asked for one.
    async fn keep_time(self) {
        loop {
            let next = self.core().wake_at();
            let changed = self.shared.timer_changed.notified();
            match next {
                None => changed.await,
                Some(at) => {
                    let at = self.shared.begun + Duration::from_micros(at.0);
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => {
                            let now = self.now();
                            let mut core = self.core();
                            core.wake(now);
                            self.act(core);
                        }
                        () = changed => {}
                    }
                }
            }
        }
    }
}

/// A request in line; dropped, it leaves the line, or gives back what it was just assigned.
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
        self.driver.act(core);
        if let Ok(answer) = waiting.try_recv() {
            drop(self.driver.take(answer));
        }
    }
}

/// Ends what a request runs on, for as long as it is the request's own.
#[derive(Clone, Debug)]
pub(crate) struct Stopper(Arc<Mutex<Option<Arc<InstanceSlot>>>>);

impl Stopper {
    fn of(slot: Arc<InstanceSlot>) -> Self {
        Self(Arc::new(Mutex::new(Some(slot))))
    }

    /// Ends the instance, or tells its processes to end (SIGTERM). Does nothing when the request has ended.
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

    /// The request is on another instance now.
    fn follow(&self, slot: Arc<InstanceSlot>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
    }

    /// The instance goes back.
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Assigned {
    /// The instance.
    pub(crate) fn instance(&self) -> &worker::Instance {
        &self.slot.instance
    }

    /// A request begins that shares the instance with others. It may have been frozen while it idled.
    pub(crate) fn begin(&self, depth: RecursionDepth) {
        self.slot.settle();
        self.slot.runs(depth);
        self.slot.begin_billing();
    }

    /// It has ended. Gives the time since the last such moment, or since the first of those that run began.
    pub(crate) fn end(&self) -> Duration {
        self.slot.end_billing()
    }

    /// What the instance's start cost and printed, where this is its first request.
    pub(crate) fn first(&self) -> Option<(ColdStart, Vec<u8>)> {
        if !self.first {
            return None;
        }
        let (cold, log) = self.slot.cold();
        cold.map(|cold| (cold, log))
    }

    /// The instance can serve no other request.
    pub(crate) fn mark_unusable(&mut self) {
        self.reusable = false;
    }

    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs a request, and then does something with what came of it, even when the caller has gone away.
    ///
    /// An instance may end by itself just as it is given an event. One that it did not take goes to another instance.
    pub(crate) fn run<T: Send + 'static>(
        self,
        live: Arc<LivePool>,
        request: RequestId,
        depth: RecursionDepth,
        event: bytes::Bytes,
        recycle: bool,
        finish: impl FnOnce(CompletedRun) -> T + Send + 'static,
    ) -> Detached<T> {
        Detached(Some(Box::pin(async move {
            let mut assigned = self;
            for _ in 1..INSTANCES_MAX {
                assigned.slot.runs(depth);
                let (ran, taken) = assigned.invoke(request, &event, recycle).await;
                if taken {
                    return finish(ran);
                }
                debug!(%request, "an instance ended before it took an event, which goes to another");
                match assigned.replace(&live).await {
                    Some(other) => assigned = other,
                    None => return finish(ran),
                }
            }
            assigned.slot.runs(depth);
            finish(assigned.invoke(request, &event, recycle).await.0)
        })))
    }

    /// Gives this instance back, and waits for another one. What stops the request stops it there.
    async fn replace(self, live: &LivePool) -> Option<Self> {
        let (driver, stopper) = (self.driver.clone(), self.stopper.clone());
        drop(self);
        let mut other = driver
            .acquire(live, &mut AcquireOptions::default())
            .await
            .ok()?;
        stopper.follow(other.slot.clone());
        other.stopper = stopper;
        Some(other)
    }

    /// Runs a request, and says whether the instance took it. With `recycle`, an instance whose request failed is ended.
    async fn invoke(
        &mut self,
        request: RequestId,
        event: &[u8],
        recycle: bool,
    ) -> (CompletedRun, bool) {
        // It may have been frozen while it idled.
        self.slot.settle();
        let invoked = self.slot.instance.invoke(request, event).await;
        let (cold, init_log) = if self.first && invoked.taken {
            self.slot.cold()
        } else {
            (None, Vec::new())
        };
        self.reusable = invoked.reusable;
        self.short = invoked.brief;
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
        (ran, invoked.taken)
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.stopper.forget();
        let now = self.driver.now();
        let mut core = self.driver.core();
        core.finished(now, &self.slot, self.reusable, self.short);
        self.driver.act(core);
    }
}

/// A future that runs to its end on its own when it is dropped before.
pub(crate) struct Detached<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Future for Detached<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Pending; // It has ended, and should not be asked again.
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

/// Whose limit a refusal comes from, in SCF's words.
pub(crate) fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Group => "reserved quota",
        Limit::Account => "region unreserved quota",
        Limit::Node => "node memory",
        Limit::Rate => "starts of the account",
        Limit::Starting => "starting places",
    }
}
