//! What happens around the machine: requests, cancellations, changes of functions and limits, crashes.

use dispatch::{AccountId, GroupId, InstanceId, MachineEvent, PoolId, PoolSpec, Ticket, Time};

use super::{Instance, LARGEST, World};

impl World {
    pub(super) fn deploy(&mut self, group: usize) {
        let random = &mut self.random;
        let spec = PoolSpec {
            group: GroupId(group as u64),
            account: AccountId(group as u64 % self.accounts),
            memory_mb: 128 * (1 + random.below(4)),
            slots: if random.one_in(2) {
                1
            } else {
                1 + random.below(5) as u32
            },
            reserved_mb: random.one_in(2).then(|| 128 * random.below(16)),
            headroom: !random.one_in(6),
            keep_alive: 1000 * (1 + random.below(3000)),
            freeze_after: 1000 * random.below(200),
        };
        self.next += 1;
        let pool = PoolId(self.next);
        self.specs.insert(pool, spec);
        let old = self.current[group].replace(pool);
        // A function that was limited by its reservation has not starved.
        if old.is_some_and(|old| self.specs[&old].reserved_mb.is_some()) {
            let mine = |(pool, spec): (&PoolId, &PoolSpec)| {
                (spec.group.0 == group as u64).then_some(*pool)
            };
            for pool in self.specs.iter().filter_map(mine) {
                self.served.insert(pool, self.now);
            }
        }
        self.deploying = true;
        self.step(MachineEvent::Open { pool, spec });
        self.deploying = false;
        if let Some(old) = old {
            self.retired.insert(old);
            self.provisioned_pools.remove(&old);
            self.step(MachineEvent::Retire { pool: old });
        }
    }

    /// Changes the reservation of a function.
    pub(super) fn reserve(&mut self, group: usize) {
        let reserved_mb = self.random.one_in(2).then(|| 128 * self.random.below(16));
        let Some(pool) = self.current[group] else {
            return;
        };
        let Some(spec) = self.specs.get_mut(&pool) else {
            return;
        };
        let was = std::mem::replace(&mut spec.reserved_mb, reserved_mb);
        let (group, account) = (spec.group, spec.account);
        // Provisioned instances must fit, except for a function disabled by 0.
        if reserved_mb != Some(0)
            && self.provisioned_pools.get(&pool).copied() > Some(self.provisionable(pool))
        {
            self.specs.get_mut(&pool).expect("it was there").reserved_mb = was;
            return;
        }
        self.disturb(account);
        self.deploying = true;
        self.step(MachineEvent::Reserve { group, reserved_mb });
        self.deploying = false;
    }

    /// Changes the unreserved quota of an account, but not below its provisioned memory.
    pub(super) fn share(&mut self, account: AccountId) {
        let of = |pool: &PoolId| {
            let spec = &self.specs[pool];
            let kept = spec.account == account && spec.reserved_mb.is_none();
            if kept { spec.memory_mb } else { 0 }
        };
        let kept: u64 = self
            .provisioned_pools
            .iter()
            .map(|(pool, n)| n * of(pool))
            .sum();
        let mb = kept + LARGEST + 128 * self.random.below(30);
        self.shares.insert(account, mb);
        self.disturb(account);
        self.deploying = true;
        self.step(MachineEvent::Unreserved { account, mb });
        self.deploying = false;
    }

    /// Restarts the wait of an account's pools: running instances above a lowered limit delay them.
    pub(super) fn disturb(&mut self, account: AccountId) {
        for (pool, _) in self
            .specs
            .iter()
            .filter(|(_, spec)| spec.account == account)
        {
            self.served.insert(*pool, self.now);
        }
    }

    /// Sets the provisioned minimum of a function, as far as capacity allows.
    pub(super) fn provision(&mut self, group: usize) {
        let Some(pool) = self.current[group] else {
            return;
        };
        if !self.specs[&pool].headroom {
            return; // Builds keep nothing.
        }
        let most = self.provisionable(pool).min(4);
        let provisioned_min = self.random.below(most + 1);
        self.provisioned_pools.insert(pool, provisioned_min);
        self.failed.remove(&pool);
        let provisioned_min = provisioned_min as usize;
        self.step(MachineEvent::Provision {
            pool,
            provisioned_min,
        });
    }

    /// How many instances a pool can provision.
    pub(super) fn provisionable(&self, pool: PoolId) -> u64 {
        let spec = &self.specs[&pool];
        let others = |counts: &dyn Fn(&PoolSpec) -> bool| -> u64 {
            let others = self
                .provisioned_pools
                .iter()
                .filter(|(other, _)| **other != pool);
            let specs = others.map(|(other, n)| (&self.specs[other], n));
            let counted = specs.filter(|(spec, _)| counts(spec));
            counted.map(|(spec, n)| n * spec.memory_mb).sum()
        };
        let node = self.provisionable_mb(self.known);
        let of_node = node.saturating_sub(others(&|_| true));
        let own = match spec.reserved_mb {
            Some(mb) => mb.saturating_sub(LARGEST),
            None => {
                let shares =
                    |other: &PoolSpec| other.account == spec.account && other.reserved_mb.is_none();
                self.share_of(spec.account)
                    .saturating_sub(LARGEST + others(&shares))
            }
        };
        of_node.min(own) / spec.memory_mb
    }

    /// Generates a random event.
    pub(super) fn happen(&mut self) {
        self.saturate();
        match self.random.below(20) {
            0..=13 => {
                let group = self.any_group();
                // Bursts now and then.
                let many = if self.random.one_in(4) {
                    self.random.below(30)
                } else {
                    1
                };
                for _ in 0..many {
                    self.ask(group);
                }
            }
            14 => self.cancel(),
            15 => {
                let group = self.any_group();
                if self.random.one_in(2) {
                    self.deploy(group);
                } else {
                    self.reserve(group);
                }
            }
            16 => self.crash(),
            17 => self.confuse(),
            18 => {
                let group = self.any_group();
                self.provision(group);
            }
            _ => {
                if self.random.one_in(3) {
                    let account = AccountId(self.random.below(self.accounts));
                    self.share(account);
                } else if self.random.one_in(2) {
                    let known = self.random.below(8);
                    self.report_accounts(known);
                }
            }
        }
    }

    fn any_group(&mut self) -> usize {
        self.random.index(self.current.len())
    }

    /// Keeps requests waiting for the saturated function, if there is one.
    fn saturate(&mut self) {
        if let Some(group) = self.saturated {
            let pool = self.current[group].expect("each group has a pool");
            while self.queues.get(&pool).map_or(0, |line| line.len())
                < 3.min(self.config.max_waiting)
            {
                self.ask(group);
                if self.fits_never(pool) {
                    break;
                }
            }
        }
    }

    /// Cancels a waiting request.
    fn cancel(&mut self) {
        let waiting: Vec<_> = self
            .queues
            .values()
            .flatten()
            .map(|(ticket, ..)| *ticket)
            .collect();
        if !waiting.is_empty() {
            let ticket = self.random.one_of(&waiting);
            self.answer(ticket);
            self.leave_queue(ticket);
            self.step(MachineEvent::Cancel { ticket });
        }
    }

    /// Ends an idle instance.
    fn crash(&mut self) {
        let idle = self
            .instances
            .iter()
            .filter(|(_, (_, state))| *state == Instance::Idle);
        if let Some(instance) = idle.map(|(id, _)| *id).next() {
            self.remove(instance);
            self.step(MachineEvent::Ended { instance });
        }
    }

    /// Reports events about unknown instances and requests, as a confused driver would. They have no effect.
    fn confuse(&mut self) {
        let instance = InstanceId(self.random.below(1 << 40) + (1 << 41));
        self.step(MachineEvent::Finished {
            instance,
            reusable: true,
        });
        self.step(MachineEvent::Ended { instance });
        self.step(MachineEvent::Cancel {
            ticket: Ticket(u64::MAX),
        });
    }

    pub(super) fn ask(&mut self, group: usize) {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        let pool = self.current[group].expect("each group has a pool");
        let deadline = self.now + 1000 * (1 + self.random.below(60_000));
        self.queues
            .entry(pool)
            .or_default()
            .push_back((ticket, self.now, deadline));
        self.step(MachineEvent::Request {
            ticket,
            pool,
            deadline: Time(deadline),
        });
    }
}
