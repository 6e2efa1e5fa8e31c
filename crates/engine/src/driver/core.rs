//! State guarded by the driver's lock: the machine, and the objects behind its identifiers.

use std::collections::HashMap;
use std::sync::Arc;

use dispatch::{
    AccountId, Config, GroupId, InstanceId, Machine, MachineEffect, MachineEvent, PoolId, PoolSpec,
    PoolStats, Reject, StartFault, Ticket, Time,
};
use model::{Function, FunctionId, FunctionKey, Serving, Version};
use tokio::sync::{Notify, oneshot};
use worker::InstanceSpec;

use super::builds::Builds;
use super::slot::InstanceSlot;
use super::types::{LivePool, ProvisionedStatus, Settings, StartFailure};

/// Reply to a waiting request.
#[derive(Debug)]
pub(super) enum AcquireReply {
    Assigned {
        slot: Arc<InstanceSlot>,
        first: bool,
    },
    Rejected(Reject, Option<StartFailure>),
}

/// Action to perform after the lock is released.
#[derive(Debug)]
pub(super) enum DriverAction {
    Start {
        instance: InstanceId,
        live: Arc<LivePool>,
        /// Whether it counts towards the provisioned minimum.
        provisioned: bool,
    },
    /// Freeze or thaw an instance as last decided.
    ApplyFreeze(Arc<InstanceSlot>),
    Stop(Arc<InstanceSlot>),
    Timer,
}

#[derive(Debug)]
pub(super) struct Core {
    machine: Machine,
    effects: Vec<MachineEffect>,
    actions: Vec<DriverAction>,
    pools: HashMap<PoolId, Arc<LivePool>>,
    /// Open pools of each function, one per version in use.
    current: HashMap<FunctionKey, Vec<(Version, PoolId)>>,
    groups: HashMap<FunctionId, GroupId>,
    /// Reserved memory of functions, MB.
    reserved: HashMap<FunctionKey, u64>,
    /// Quota of accounts, MB, where it differs from `account_mb`.
    totals: HashMap<AccountId, u64>,
    account_mb: u64,
    instances: HashMap<InstanceId, Arc<InstanceSlot>>,
    waiting: HashMap<Ticket, oneshot::Sender<AcquireReply>>,
    /// The request in progress, and its reply if there was one immediately.
    immediate: Option<(Ticket, Option<AcquireReply>)>,
    failures: HashMap<InstanceId, StartFailure>,
    /// Error of the last start in pools with a provisioned minimum. Cleared by a successful start.
    provision_errors: HashMap<PoolId, String>,
    pub(super) builds: Builds,
    wake: Option<Time>,
    next: u64,
    emptied: Arc<Notify>,
}

impl Core {
    pub(super) fn new(config: Config) -> Self {
        Self {
            machine: Machine::new(config),
            effects: Vec::new(),
            actions: Vec::new(),
            pools: HashMap::new(),
            current: HashMap::new(),
            groups: HashMap::new(),
            reserved: HashMap::new(),
            totals: HashMap::new(),
            account_mb: config.account_mb,
            instances: HashMap::new(),
            waiting: HashMap::new(),
            immediate: None,
            failures: HashMap::new(),
            provision_errors: HashMap::new(),
            builds: Builds::default(),
            wake: None,
            next: 0,
            emptied: Arc::new(Notify::new()),
        }
    }

    pub(super) fn live(&self, serving: &Serving<'_>) -> Option<Arc<LivePool>> {
        let live = self.current(serving)?;
        live.serves(serving).then(|| live.clone())
    }

    /// Returns the pool of a version, whatever its revision.
    fn current(&self, serving: &Serving<'_>) -> Option<&Arc<LivePool>> {
        let pools = self.current.get(&serving.function.key)?;
        let (_, pool) = pools
            .iter()
            .find(|(version, _)| *version == serving.version)?;
        self.pools.get(pool)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.machine.is_empty()
    }

    pub(super) fn provisionable_mb(&self) -> u64 {
        self.machine.provisionable_mb()
    }

    /// Returns the counts of instances and waiting requests, without builds.
    pub(super) fn totals(&self) -> PoolStats {
        let (running, waiting) = self.builds.count();
        let all = self.machine.totals();
        PoolStats {
            busy: all.busy.saturating_sub(running),
            waiting: all.waiting.saturating_sub(waiting),
            ..all
        }
    }

    /// Returns three unused numbers for identifiers.
    pub(super) fn next_ids(&mut self) -> [u64; 3] {
        self.next += 3;
        [self.next - 2, self.next - 1, self.next]
    }

    pub(super) fn specs(&self) -> Vec<Arc<InstanceSpec>> {
        self.pools.values().map(|live| live.spec.clone()).collect()
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        self.wake
    }

    pub(super) fn emptied(&self) -> Arc<Notify> {
        self.emptied.clone()
    }

    pub(super) fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    pub(super) fn take_actions(&mut self) -> Vec<DriverAction> {
        std::mem::take(&mut self.actions)
    }

    /// Opens the pool of a revision, unless the same or a newer one is open already.
    pub(super) fn open(
        &mut self,
        now: Time,
        serving: &Serving<'_>,
        spec: Arc<InstanceSpec>,
        note: Option<String>,
        settings: &Settings,
    ) -> Arc<LivePool> {
        let function = serving.function;
        let current = self.current(serving);
        // Revisions increase within one function; a different id is another function of the same name.
        let newer =
            |live: &&Arc<LivePool>| live.id == function.id && live.revision >= serving.revision;
        if let Some(live) = current.filter(newer) {
            return live.clone();
        }
        let old = current.map(|live| live.pool);
        self.next += 2;
        let group = *self
            .groups
            .entry(function.id.clone())
            .or_insert(GroupId(self.next - 1));
        let pool = PoolId(self.next);
        let (id, revision) = (function.id.clone(), serving.revision);
        let live = Arc::new(LivePool {
            pool,
            id,
            revision,
            spec,
            note,
        });
        self.pools.insert(pool, live.clone());
        let pools = self.current.entry(function.key.clone()).or_default();
        pools.retain(|(version, _)| *version != serving.version);
        pools.push((serving.version, pool));
        let spec = PoolSpec {
            group,
            account: AccountId(function.key.account.0),
            memory_mb: u64::from(serving.config.memory.mb()),
            slots: serving.slots(),
            headroom: true,
            reserved_mb: self.reserved.get(&function.key).copied(),
            keep_alive: settings.keep_alive.as_micros() as u64,
            freeze_after: settings.freeze_after.as_micros() as u64,
        };
        self.step(now, MachineEvent::Open { pool, spec });
        if let Some(old) = old {
            self.step(now, MachineEvent::Retire { pool: old });
        }
        live
    }

    /// Sets or removes a function's reserved memory, which changes the account's unreserved quota.
    pub(super) fn reserve(&mut self, now: Time, function: &FunctionKey, mb: Option<u64>) {
        let was = match mb {
            Some(mb) => self.reserved.insert(function.clone(), mb),
            None => self.reserved.remove(function),
        };
        if was == mb {
            return;
        }
        self.set_unreserved(now, AccountId(function.account.0));
        let pools = self.current.get(function).into_iter().flatten();
        let ids = pools.filter_map(|(_, pool)| Some(self.pools.get(pool)?.id.clone()));
        let groups: Vec<_> = ids.filter_map(|id| self.groups.get(&id).copied()).collect();
        for group in groups {
            let reserved_mb = mb;
            self.step(now, MachineEvent::Reserve { group, reserved_mb });
        }
    }

    /// Sets the quota of an account, MB.
    pub(super) fn total(&mut self, now: Time, account: AccountId, mb: u64) {
        if self.totals.insert(account, mb) != Some(mb) {
            self.set_unreserved(now, account);
        }
    }

    /// Returns an account's unreserved quota, MB.
    pub(super) fn unreserved_mb(&self, account: AccountId) -> u64 {
        let total = self.totals.get(&account).unwrap_or(&self.account_mb);
        let own = self
            .reserved
            .iter()
            .filter(|(key, _)| key.account.0 == account.0);
        total.saturating_sub(own.map(|(_, mb)| *mb).sum())
    }

    fn set_unreserved(&mut self, now: Time, account: AccountId) {
        let mb = self.unreserved_mb(account);
        self.step(now, MachineEvent::Unreserved { account, mb });
    }

    /// Sets the provisioned minimum of a version.
    pub(super) fn provision(&mut self, now: Time, serving: &Serving<'_>, provisioned_min: usize) {
        let Some(pool) = self.live(serving).map(|live| live.pool) else {
            return;
        };
        if self
            .machine
            .stats(pool)
            .is_some_and(|stats| stats.provisioned_min != provisioned_min)
        {
            self.provision_errors.remove(&pool);
            self.step(
                now,
                MachineEvent::Provision {
                    pool,
                    provisioned_min,
                },
            );
        }
    }

    /// Returns the status of a version's provisioned instances, if its pool is open.
    pub(super) fn provisioned_status(&self, serving: &Serving<'_>) -> Option<ProvisionedStatus> {
        let pool = self.live(serving)?.pool;
        let stats = self.machine.stats(pool)?;
        Some(ProvisionedStatus {
            provisioned_min: stats.provisioned_min,
            ready: stats.ready,
            last_error: self.provision_errors.get(&pool).cloned(),
            blocked_by: self.machine.blocked_by(pool),
        })
    }

    /// Returns the peak concurrency of a version since the last call.
    pub(super) fn take_peak(&mut self, serving: &Serving<'_>) -> usize {
        let pool = self.live(serving).map(|live| live.pool);
        let peak = pool.and_then(|pool| self.machine.take_peak(pool));
        peak.unwrap_or(0)
    }

    pub(super) fn retire(&mut self, now: Time, function: &FunctionKey, keep: Option<&Function>) {
        let Some(pools) = self.current.get_mut(function) else {
            return;
        };
        let (lives, serves) = (&self.pools, |live: &Arc<LivePool>, version| {
            keep.and_then(|function| function.serving(version))
                .is_some_and(|serving| live.serves(&serving))
        });
        let mut old = Vec::new();
        pools.retain(|(version, pool)| {
            let kept = lives.get(pool).is_some_and(|live| serves(live, *version));
            old.extend((!kept).then_some(*pool));
            kept
        });
        if pools.is_empty() {
            self.current.remove(function);
        }
        for pool in old {
            self.step(now, MachineEvent::Retire { pool });
        }
    }

    /// Retires all pools of an account and stops its instances. Returns the number of pools that remain.
    pub(super) fn end_account(&mut self, now: Time, account: model::AccountId) -> usize {
        let current: Vec<_> = self.current.keys().cloned().collect();
        for function in current.iter().filter(|key| key.account == account) {
            self.retire(now, function, None);
        }
        let of_it = |slot: &&Arc<InstanceSlot>| slot.instance.spec().function.account == account;
        let stops = self.instances.values().filter(of_it).cloned();
        self.actions.extend(stops.map(DriverAction::Stop));
        let pools = self.pools.values();
        pools
            .filter(|live| live.spec.function.account == account)
            .count()
    }

    /// Requests an instance. Returns the reply, or a channel for it.
    pub(super) fn request(
        &mut self,
        now: Time,
        pool: PoolId,
        deadline: Time,
    ) -> (
        Ticket,
        Result<AcquireReply, oneshot::Receiver<AcquireReply>>,
    ) {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.immediate = Some((ticket, None));
        self.step(
            now,
            MachineEvent::Request {
                ticket,
                pool,
                deadline,
            },
        );
        let answer = self.immediate.take().and_then(|(_, answer)| answer);
        match answer {
            Some(answer) => (ticket, Ok(answer)),
            None => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.insert(ticket, sender);
                (ticket, Err(receiver))
            }
        }
    }

    pub(super) fn cancel(&mut self, now: Time, ticket: Ticket) {
        self.waiting.remove(&ticket);
        self.step(now, MachineEvent::Cancel { ticket });
    }

    pub(super) fn started(&mut self, now: Time, pool: PoolId, slot: Arc<InstanceSlot>) {
        let instance = slot.id;
        self.provision_errors.remove(&pool);
        self.instances.insert(instance, slot);
        self.step(now, MachineEvent::Started { instance });
    }

    pub(super) fn start_failed(
        &mut self,
        now: Time,
        pool: PoolId,
        instance: InstanceId,
        fault: StartFault,
        failure: StartFailure,
    ) {
        if self
            .machine
            .stats(pool)
            .is_some_and(|stats| stats.provisioned_min > 0)
        {
            self.provision_errors
                .insert(pool, failure.failure.summary());
        }
        self.failures.insert(instance, failure);
        self.step(now, MachineEvent::StartFailed { instance, fault });
        self.failures.remove(&instance);
    }

    pub(super) fn finished(
        &mut self,
        now: Time,
        slot: &Arc<InstanceSlot>,
        reusable: bool,
        short: Option<bool>,
    ) {
        // An end that came while it was busy was ignored by the machine, so it is reported here.
        let reusable = reusable && !slot.has_ended();
        let instance = slot.id;
        if let Some(short) = short {
            self.step(now, MachineEvent::ShortRequests { instance, short });
        }
        if !reusable {
            self.instances.remove(&instance);
        }
        self.step(now, MachineEvent::Finished { instance, reusable });
        // An instance that is alive but not reusable, for example with expired credentials, is stopped.
        if !reusable && self.machine.instance_is_gone(instance) && !slot.has_ended() {
            self.actions.push(DriverAction::Stop(slot.clone()));
        }
    }

    pub(super) fn wake(&mut self, now: Time) {
        self.wake = None;
        self.step(now, MachineEvent::Wake);
    }

    pub(super) fn step(&mut self, now: Time, event: MachineEvent) {
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(now, event, &mut effects);
        if let MachineEvent::Ended { instance } = event
            && self.machine.instance_is_gone(instance)
        {
            self.instances.remove(&instance);
        }
        for effect in effects.drain(..) {
            if let Some(effect) = self.builds.intercept(effect) {
                self.apply_effect(effect);
            }
        }
        self.effects = effects;
        while let Some(event) = self.builds.next_event() {
            self.step(now, event);
        }
        if self.machine.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    fn apply_effect(&mut self, effect: MachineEffect) {
        match effect {
            MachineEffect::Start {
                instance,
                pool,
                provisioned,
            } => {
                if let Some(live) = self.pools.get(&pool) {
                    let live = live.clone();
                    self.actions.push(DriverAction::Start {
                        instance,
                        live,
                        provisioned,
                    });
                }
            }
            MachineEffect::Assign {
                ticket,
                instance,
                first,
                ..
            } => {
                if let Some(slot) = self.instances.get(&instance) {
                    slot.should_be_frozen(false);
                    let slot = slot.clone();
                    self.answer(ticket, AcquireReply::Assigned { slot, first });
                }
            }
            MachineEffect::Reject { ticket, reason } => {
                let failure = match reason {
                    Reject::StartFailed { instance } => self.failures.remove(&instance),
                    _ => None,
                };
                self.answer(ticket, AcquireReply::Rejected(reason, failure));
            }
            MachineEffect::Freeze { instance } => {
                if let Some(slot) = self.instances.get(&instance) {
                    slot.should_be_frozen(true);
                    self.actions.push(DriverAction::ApplyFreeze(slot.clone()));
                }
            }
            MachineEffect::Stop { instance } => {
                if let Some(slot) = self.instances.get(&instance) {
                    self.actions.push(DriverAction::Stop(slot.clone()));
                }
            }
            MachineEffect::WakeAt { at } => {
                self.wake = Some(at);
                self.actions.push(DriverAction::Timer);
            }
            MachineEffect::PoolEmpty { pool } => {
                self.provision_errors.remove(&pool);
                if let Some(live) = self.pools.remove(&pool) {
                    self.forget_group(&live.id);
                }
            }
        }
    }

    fn forget_group(&mut self, id: &FunctionId) {
        if self.pools.values().all(|live| live.id != *id) {
            self.groups.remove(id);
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: AcquireReply) {
        if let Some((asking, slot)) = &mut self.immediate
            && *asking == ticket
        {
            *slot = Some(answer);
            return;
        }
        if let Some(waiting) = self.waiting.remove(&ticket) {
            // A receiver that was just dropped checks for a reply and returns the instance.
            let _ = waiting.send(answer);
        }
    }
}
