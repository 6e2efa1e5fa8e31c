//! Brief requests, which gain nothing by more instances than processors: each of those has its memory to warm up.

use super::Machine;
use crate::timer::MachineTimer;
use crate::{InstanceId, MachineEffect, PoolId, Time};

/// How long a brief request waits in line, microseconds. Longer, and it was no more brief than others.
const HOLD: u64 = 20_000;
/// How long after that none is taken for brief, microseconds.
const DOUBT: u64 = 1_000_000;

impl Machine {
    pub(super) fn short_requests(
        &mut self,
        now: Time,
        id: InstanceId,
        short: bool,
        out: &mut Vec<MachineEffect>,
    ) {
        let Some(id) = self.instances.get(&id).map(|instance| instance.pool) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        if pool.short_requests.short == short || now < pool.short_requests.doubted_until {
            return;
        }
        pool.short_requests.short = short;
        if short {
            self.watch_line(now, id, out);
        } else {
            self.serve_line(now, id, out);
        }
        self.start_pending(now, out);
    }

    /// Sees to it that nothing waits for long where requests are taken for brief.
    pub(super) fn watch_line(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        let full = pool.waiting >= self.config.max_waiting;
        if !pool.short_requests.short || (pool.short_requests.watched && !full) {
            return;
        }
        while let Some((first, came)) = pool.line.front() {
            let until = came.after(HOLD);
            if !self.tickets.contains_key(first) {
                pool.line.pop_front(); // It was given up.
            } else if now < until && !full {
                pool.short_requests.watched = true;
                self.timers.add(until, MachineTimer::Line(id));
                return;
            } else {
                pool.short_requests.short = false;
                pool.short_requests.doubted_until = now.after(DOUBT);
                return self.serve_line(now, id, out);
            }
        }
    }

    /// The first in line may have waited for long.
    pub(super) fn look_at_line(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.short_requests.watched = false;
            self.watch_line(now, id, out);
        }
    }

    /// Gives a pool's line to its idle instances, unless it is to wait for others, and asks for those that are missing.
    pub(super) fn serve_line(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        while let Some(pool) = self.pools.get_mut(&id)
            && pool.waiting > 0
            && !pool.holds(&self.config)
            && let Some(instance) = pool.idle.pop_back()
        {
            let Some(ticket) = self.next_in_line(id) else {
                return; // There is one, as long as any waits.
            };
            self.assign(ticket, instance, out);
        }
        self.queue_start(now, id);
    }
}
