//! Changes of the limits of functions and accounts.

use super::Machine;
use crate::pool::Pool;
use crate::{AccountId, GroupId, MachineEffect, Time};

impl Machine {
    /// Applies a changed reservation. Idle instances above it are stopped; busy ones end with their requests.
    pub(super) fn reserve(
        &mut self,
        now: Time,
        group: GroupId,
        mb: Option<u64>,
        out: &mut Vec<MachineEffect>,
    ) {
        let of_group = |pool: &&Pool| pool.spec.group == group;
        let Some(account) = self
            .pools
            .values()
            .find(of_group)
            .map(|pool| pool.spec.account)
        else {
            return;
        };
        self.capacity.reserve(account, group, mb);
        while self.capacity.is_over_reserved(group) {
            let of_group = |pool: &Pool| pool.spec.group == group && self.is_spare(pool);
            match self.least_recent(|pool, _| of_group(pool).then_some(())) {
                Some(id) => self.stop(id, out),
                None => break,
            }
        }
        self.queue_all_provisioned(now);
        self.start_pending(now, out);
    }

    /// Applies a changed unreserved quota. Idle instances above it are stopped; busy ones end with their requests.
    pub(super) fn set_unreserved(
        &mut self,
        now: Time,
        account: AccountId,
        mb: u64,
        out: &mut Vec<MachineEffect>,
    ) {
        self.capacity.set_unreserved(account, mb);
        while self.capacity.is_over_unreserved(&self.config, account) {
            let uses_unreserved = |pool: &Pool| {
                let reserved = self.capacity.is_reserved(pool.spec.group);
                pool.spec.account == account && !reserved && self.is_spare(pool)
            };
            match self.least_recent(|pool, _| uses_unreserved(pool).then_some(())) {
                Some(id) => self.stop(id, out),
                None => break,
            }
        }
        self.queue_all_provisioned(now);
        self.start_pending(now, out);
    }
}
