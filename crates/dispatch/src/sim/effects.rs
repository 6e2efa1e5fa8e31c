//! Effects of the machine: instances start, serve and end, and the books follow.

use dispatch::{
    AccountId, InstanceId, MachineEffect, MachineEvent, PoolId, Reject, StartFault, Ticket, Time,
};

use super::{Instance, TURN, World};

impl World {
    pub(super) fn step(&mut self, event: MachineEvent) {
        let mut effects = Vec::new();
        self.steps += 1;
        if let MachineEvent::Finished { instance, .. } = event {
            self.finishing = Some(instance);
        }
        self.freed = matches!(
            event,
            MachineEvent::Started { .. } | MachineEvent::Finished { .. }
        );
        self.machine.step(Time(self.now), event, &mut effects);
        if std::env::var_os("SIM_TRACE").is_some() {
            eprintln!("{} {event:?} -> {effects:?}", self.now);
        }
        for effect in effects {
            self.perform(effect);
        }
        self.finishing = None;
        self.check();
    }

    fn perform(&mut self, effect: MachineEffect) {
        match effect {
            MachineEffect::Start {
                instance,
                pool,
                provisioned,
            } => self.start(instance, pool, provisioned),
            MachineEffect::Assign {
                ticket, instance, ..
            } => self.assign(ticket, instance),
            MachineEffect::Reject { ticket, reason } => self.reject(ticket, reason),
            MachineEffect::Freeze { instance } => {
                assert_eq!(self.instances[&instance].1, Instance::Idle);
                self.thawed.remove(&instance);
            }
            MachineEffect::Stop { instance } => self.stop(instance),
            MachineEffect::WakeAt { at } => self.wake = Some(at.0),
            MachineEffect::PoolEmpty { pool } => self.forget(pool),
        }
    }

    fn start(&mut self, instance: InstanceId, pool: PoolId, provisioned: bool) {
        self.check_fair_start(pool, provisioned);
        self.wanted.remove(&pool);
        self.waits.remove(&pool);
        if provisioned {
            let live = self.tally().live(pool);
            assert!(
                live < self.provisioned_min(pool),
                "more than the provisioned minimum"
            );
        } else {
            self.count_start(self.specs[&pool].account);
        }
        assert!(
            self.instances
                .insert(instance, (pool, Instance::Starting))
                .is_none(),
            "used twice"
        );
        assert!(self.specs.contains_key(&pool));
        let took = 1000 * (1 + self.random.below(50));
        let event = match self.random.below(12) {
            0 => MachineEvent::StartFailed {
                instance,
                fault: StartFault::User,
            },
            1 => MachineEvent::StartFailed {
                instance,
                fault: StartFault::Platform,
            },
            _ => MachineEvent::Started { instance },
        };
        self.later(took, event);
    }

    fn assign(&mut self, ticket: Ticket, instance: InstanceId) {
        let (pool, state) = self
            .instances
            .get_mut(&instance)
            .expect("assigned to a living instance");
        assert!(
            matches!(state, Instance::Idle | Instance::Starting | Instance::Busy),
            "{state:?}"
        );
        *state = Instance::Busy;
        let pool = *pool;
        self.idles.remove(&instance);
        if self.finishing == Some(instance) {
            self.check_headroom(pool);
            self.check_yields(pool);
        }
        let (running, broken) = self.running.entry(instance).or_default();
        *running += 1;
        assert!(!*broken, "assigned to one that has ended");
        assert!(*running <= self.specs[&pool].slots, "{running} at a time");
        let (waited_in, place, came) = self.leave_queue(ticket).expect("assigned while it waits");
        assert_eq!(waited_in, pool, "on another pool's instance");
        assert_eq!(place, 0, "first come, first served");
        self.serve(pool, came);
        self.answer(ticket);
        let took = 1000 * (1 + self.random.below(400));
        let reusable = !self.random.one_in(15);
        self.later(took, MachineEvent::Finished { instance, reusable });
    }

    fn reject(&mut self, ticket: Ticket, reason: Reject) {
        let (pool, place, came) = self.leave_queue(ticket).expect("rejected while it waits");
        if let Reject::StartFailed { .. } = reason {
            self.serve(pool, came);
        }
        match reason {
            Reject::StartFailed { .. } => {
                assert_eq!(place, 0, "the head of the queue is rejected")
            }
            Reject::Gone => assert!(self.retired.contains(&pool)),
            Reject::Draining => assert!(self.drained),
            Reject::QueueFull => {
                assert!(
                    self.queues[&pool].len() >= self.config.max_waiting,
                    "the queue was not full"
                );
            }
            Reject::Never { .. } => assert!(self.fits_never(pool)),
            Reject::Deadline { .. } => {}
        }
        self.answer(ticket);
    }

    fn stop(&mut self, instance: InstanceId) {
        let (_, state) = self
            .instances
            .get_mut(&instance)
            .expect("stopped while it lives");
        assert!(
            matches!(state, Instance::Idle | Instance::Busy | Instance::Starting),
            "{state:?}"
        );
        *state = Instance::Stopping;
        let pool = self.instances[&instance].0;
        let kept = self.tally().live(pool) < self.provisioned_min(pool);
        let idled = self.idles.remove(&instance);
        let keep_alive = self.specs[&pool].keep_alive;
        let evicted = idled.is_some_and(|since| self.now < since + keep_alive)
            && !self.drained
            && !self.deploying
            && !self.freed
            && !self.retired.contains(&pool);
        if evicted && !kept {
            self.check_eviction(pool);
        }
        self.note_empty(pool);
        assert!(
            !kept || self.drained || self.fits_never(pool) || self.may_release_provisioned(pool),
            "{pool:?} loses provisioned instances"
        );
        let took = self.random.below(5000);
        self.later(took, MachineEvent::Ended { instance });
    }

    /// Forgets a retired pool, which must be empty.
    fn forget(&mut self, pool: PoolId) {
        assert!(
            self.retired.contains(&pool),
            "forgotten while it is current"
        );
        assert!(
            self.instances.values().all(|(of, _)| *of != pool),
            "forgotten with instances"
        );
        assert!(
            self.queues.remove(&pool).is_none_or(|line| line.is_empty()),
            "forgotten with requests"
        );
        self.specs.remove(&pool);
        self.wanted.remove(&pool);
    }

    /// Reports an event to the machine.
    pub(super) fn report(&mut self, event: MachineEvent) {
        if let MachineEvent::Finished { instance, .. } = event
            && self.random.one_in(4)
        {
            let short = self.random.one_in(2);
            self.step(MachineEvent::ShortRequests { instance, short });
        }
        match event {
            MachineEvent::Started { instance } => self.set_idle(instance),
            MachineEvent::StartFailed { instance, .. } => {
                let gone = self.remove(instance);
                self.failed.extend(gone);
            }
            MachineEvent::Ended { instance } => {
                self.remove(instance);
            }
            MachineEvent::Finished { instance, reusable } => {
                let (running, broken) = self.running.entry(instance).or_default();
                *running = running.saturating_sub(1);
                *broken |= !reusable;
                match (*running, *broken) {
                    (0, true) => {
                        self.remove(instance);
                        self.running.remove(&instance);
                    }
                    (0, false) => self.set_idle(instance),
                    _ => {}
                }
            }
            _ => {}
        }
        self.step(event);
    }

    /// Records progress of a pool.
    pub(super) fn serve(&mut self, pool: PoolId, came: u64) {
        let last = self.served.insert(pool, self.now).unwrap_or(0);
        let gap = self.now - last.max(came);
        let turns = 1 + self.specs.len() as u64 + self.provisioned_pools.values().sum::<u64>();
        // With a low start rate, the pools get starts in turn, and a start may fail.
        let each = 60_000_000u64.checked_div(self.config.starts_per_minute.into());
        let bound = (TURN + self.config.yield_after + 4 * each.unwrap_or(0)) * turns;
        assert!(
            gap <= bound,
            "{pool:?} got nothing for {gap} us, {bound} are allowed, {}",
            self.describe()
        );
    }

    /// Checks the start rate, including the burst.
    pub(super) fn count_start(&mut self, account: AccountId) {
        let rate = u64::from(self.config.starts_per_minute);
        let starts = self.starts.entry(account).or_default();
        starts.push(self.now);
        let Some(each) = 60_000_000u64.checked_div(rate) else {
            return;
        };
        let full_at = self.tokens.entry(account).or_default();
        *full_at = (*full_at).max(self.now) + each;
        for (before, first) in starts.iter().rev().zip(1u64..).map(|(at, n)| (n, *at)) {
            let allowed = rate + (self.now - first) / each;
            assert!(before <= allowed, "{before} starts, {allowed} allowed");
        }
    }

    pub(super) fn set_idle(&mut self, instance: InstanceId) {
        if let Some((_, state)) = self.instances.get_mut(&instance) {
            *state = Instance::Idle;
            self.thawed.insert(instance, self.now);
            self.idles.insert(instance, self.now);
        }
    }
}
