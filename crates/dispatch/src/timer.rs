//! Timers of the state machine.

use std::collections::BTreeSet;

use crate::{AccountId, InstanceId, PoolId, Ticket, Time};

/// The subject of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MachineTimer {
    /// Freeze or stop an idle instance.
    Instance(InstanceId),
    /// A request's deadline.
    Ticket(Ticket),
    /// Retry a provisioned start.
    Provisioned(PoolId),
    /// The next token of an account's start rate.
    Rate(AccountId),
    /// The head of a pool's queue may have waited too long for short-request handling.
    Head(PoolId),
}

/// All timers, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Time, MachineTimer)>,
    /// The wake-up time that the driver was last asked for.
    announced: Option<Time>,
}

impl Timers {
    pub(crate) fn add(&mut self, at: Time, due: MachineTimer) {
        self.set.insert((at, due));
    }

    pub(crate) fn remove(&mut self, at: Time, due: MachineTimer) {
        self.set.remove(&(at, due));
    }

    /// Removes and returns a timer that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<MachineTimer> {
        self.set.first().filter(|(at, _)| *at <= now)?;
        self.set.pop_first().map(|(_, due)| due)
    }

    /// Records that the driver has woken the machine.
    pub(crate) fn woken(&mut self) {
        self.announced = None;
    }

    /// Returns a wake-up time to request, if it is earlier than the last requested one.
    pub(crate) fn announce(&mut self) -> Option<Time> {
        let (first, _) = self.set.first()?;
        let earlier = self.announced.is_none_or(|announced| *first < announced);
        earlier.then(|| *self.announced.insert(*first))
    }

    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }
}
