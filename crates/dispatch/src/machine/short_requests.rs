//! Short-request detection. Short, CPU-bound requests gain nothing from more instances than processors, since each
//! instance has to warm up its own memory.

use super::Machine;
use crate::timer::MachineTimer;
use crate::{InstanceId, MachineEffect, PoolId, Time};

/// Maximum wait of a short request before its pool scales as any other, microseconds.
const MAX_WAIT: u64 = 20_000;
/// How long detection then stays off, microseconds.
const OFF_TIME: u64 = 1_000_000;

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
        if pool.short_requests.short == short || now < pool.short_requests.disabled_until {
            return;
        }
        pool.short_requests.short = short;
        if short {
            self.check_head(now, id, out);
        } else {
            self.serve_requests(now, id, out);
        }
        self.start_pending(now, out);
    }

    /// Makes sure that short requests do not wait for long.
    pub(super) fn check_head(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        let Some(pool) = self.pools.get_mut(&id) else {
            return;
        };
        let full = pool.waiting >= self.config.max_waiting;
        if !pool.short_requests.short || (pool.short_requests.timer_set && !full) {
            return;
        }
        while let Some((first, came)) = pool.requests.front() {
            let until = came.after(MAX_WAIT);
            if !self.tickets.contains_key(first) {
                pool.requests.pop_front(); // It was cancelled.
            } else if now < until && !full {
                pool.short_requests.timer_set = true;
                self.timers.add(until, MachineTimer::Head(id));
                return;
            } else {
                pool.short_requests.short = false;
                pool.short_requests.disabled_until = now.after(OFF_TIME);
                return self.serve_requests(now, id, out);
            }
        }
    }

    /// Checks the head of the queue after its maximum wait.
    pub(super) fn head_timer_fired(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.short_requests.timer_set = false;
            self.check_head(now, id, out);
        }
    }

    /// Assigns waiting requests to idle instances, unless they are to wait for busy ones, and queues missing starts.
    pub(super) fn serve_requests(&mut self, now: Time, id: PoolId, out: &mut Vec<MachineEffect>) {
        while let Some(pool) = self.pools.get_mut(&id)
            && pool.waiting > 0
            && !pool.waits_for_busy(&self.config)
            && let Some(instance) = pool.idle.pop_back()
        {
            let Some(ticket) = self.next_request(id) else {
                return; // Unreachable while `waiting` is above 0.
            };
            self.assign(ticket, instance, out);
        }
        self.queue_start(now, id);
    }
}
