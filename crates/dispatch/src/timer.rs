//! What is due when.

use std::collections::BTreeSet;

use crate::{AccountId, InstanceId, PoolId, Ticket, Time};

/// Whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MachineTimer {
    /// An instance may have idled long enough to be frozen or stopped.
    Instance(InstanceId),
    /// A request has waited long enough.
    Ticket(Ticket),
    /// A start for a pool's floor may be tried again.
    Provisioned(PoolId),
    /// An account may start one more instance.
    Rate(AccountId),
    /// The first in a pool's line may have waited for long.
    Line(PoolId),
}

/// All timers, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Time, MachineTimer)>,
    /// The time at which the driver has been asked to wake the machine.
    announced: Option<Time>,
}

impl Timers {
    pub(crate) fn add(&mut self, at: Time, due: MachineTimer) {
        self.set.insert((at, due));
    }

    pub(crate) fn remove(&mut self, at: Time, due: MachineTimer) {
        self.set.remove(&(at, due));
    }

    /// Takes out one that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<MachineTimer> {
        self.set.first().filter(|(at, _)| *at <= now)?;
        self.set.pop_first().map(|(_, due)| due)
    }

    /// The driver has woken the machine.
    pub(crate) fn woken(&mut self) {
        self.announced = None;
    }

    /// A time to announce, when the driver knows of none as early.
    pub(crate) fn announce(&mut self) -> Option<Time> {
        let (first, _) = self.set.first()?;
        let earlier = self.announced.is_none_or(|announced| *first < announced);
        earlier.then(|| *self.announced.insert(*first))
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
}
