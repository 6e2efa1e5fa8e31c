//! Admission of builds. To `dispatch` a build is an instance of a pool of its own, which counts as started as soon as
//! its memory is granted.

use std::time::Duration;

use dispatch::{
    AccountId, GroupId, InstanceId, Limit, MachineEvent, PoolId, PoolSpec, Reject, Ticket, Time,
};
use thiserror::Error;
use tokio::sync::oneshot;

use super::Driver;
use super::core::Core;

/// Minimum memory of a build, MB.
const MIN_MB: u64 = 128;

/// Reason for rejecting a build.
#[derive(Debug, Error)]
pub enum BuildMemoryError {
    /// The build needs more memory than it can ever get.
    #[error(
        "a build needs at least {MIN_MB} MB of memory; the account's unreserved quota is {unreserved_mb} MB and the node has {node_mb} MB; raise the quota, or reserve less memory for functions"
    )]
    Never {
        /// The account's unreserved quota (MB).
        unreserved_mb: u64,
        /// The node's memory (MB).
        node_mb: u64,
    },
    /// No memory became free in time.
    #[error(
        "no memory for the build within {seconds} s: it needs {mb} MB of {limit}, which other instances and builds use; try again later, or raise the limit"
    )]
    Late {
        /// The memory of the build (MB).
        mb: u64,
        /// How long it waited (s).
        seconds: u64,
        /// The limit that was reached.
        limit: &'static str,
    },
}

/// Memory granted to a build. Released on drop.
#[derive(Debug)]
pub struct Build {
    driver: Driver,
    hold: BuildReservation,
    waiting: oneshot::Receiver<Result<InstanceId, Reject>>,
    instance: Option<InstanceId>,
}

impl Build {
    /// Returns the granted memory in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.hold.mb << 20
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let now = self.driver.now();
        let mut core = self.driver.core();
        // Under the lock, so that memory cannot be granted after this check.
        let given = || self.waiting.try_recv().ok()?.ok();
        let instance = self.instance.take().or_else(given);
        core.end_build(now, &self.hold, instance);
        self.driver.perform(core);
    }
}

impl Driver {
    /// Waits for the memory of a build: `wanted_mb`, capped at half of the account's unreserved quota and of the node.
    /// Never returns during shutdown, so that an interrupted build does not count as failed.
    ///
    /// # Errors
    /// The limits are too low, or no memory was free in time.
    pub async fn build(
        &self,
        account: model::AccountId,
        wanted_mb: u64,
        within: Duration,
    ) -> Result<Build, BuildMemoryError> {
        let mut build = self.begin_build(AccountId(account.0), wanted_mb, within);
        match (&mut build.waiting).await {
            Ok(Ok(instance)) => {
                build.instance = Some(instance);
                Ok(build)
            }
            Ok(Err(Reject::Never { .. })) => Err(BuildMemoryError::Never {
                unreserved_mb: self.unreserved_mb(account),
                node_mb: self.shared.settings.dispatch.node_mb,
            }),
            Ok(Err(Reject::Draining | Reject::Gone)) | Err(_) => std::future::pending().await,
            Ok(Err(reject)) => Err(BuildMemoryError::Late {
                mb: build.hold.mb,
                seconds: within.as_secs(),
                limit: match reject {
                    Reject::Deadline {
                        limit: Limit::Account | Limit::Group,
                    } => "the account's quota",
                    _ => "the node's memory",
                },
            }),
        }
    }
}

impl Driver {
    pub(super) fn release_builds(&self) {
        let now = self.now();
        let mut core = self.core();
        core.release_builds(now);
        self.perform(core);
    }

    fn begin_build(&self, account: AccountId, wanted_mb: u64, within: Duration) -> Build {
        let now = self.now();
        let deadline = now.after(within.as_micros() as u64);
        let mut core = self.core();
        let most = core
            .provisionable_mb()
            .min(core.unreserved_mb(account) / 2)
            .min(self.shared.settings.dispatch.node_mb / 2)
            .max(MIN_MB);
        let (hold, waiting) = core.begin_build(now, account, wanted_mb.min(most), deadline);
        self.perform(core);
        Build {
            driver: self.clone(),
            hold,
            waiting,
            instance: None,
        }
    }
}

/// Identifiers of a build in `dispatch`.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuildReservation {
    pool: PoolId,
    ticket: Ticket,
    mb: u64,
}

impl Core {
    fn begin_build(
        &mut self,
        now: Time,
        account: AccountId,
        mb: u64,
        deadline: Time,
    ) -> (
        BuildReservation,
        oneshot::Receiver<Result<InstanceId, Reject>>,
    ) {
        let [group, pool, ticket] = self.next_ids();
        let (pool, ticket) = (PoolId(pool), Ticket(ticket));
        let spec = PoolSpec {
            group: GroupId(group),
            account,
            memory_mb: mb,
            slots: 1,
            reserved_mb: None,
            headroom: false,
            keep_alive: 0,
            freeze_after: 0,
        };
        let (sender, waiting) = oneshot::channel();
        self.builds.pools.insert(pool, ticket);
        self.builds.waiting.insert(ticket, sender);
        self.step(now, MachineEvent::Open { pool, spec });
        let request = MachineEvent::Request {
            ticket,
            pool,
            deadline,
        };
        self.step(now, request);
        (BuildReservation { pool, ticket, mb }, waiting)
    }

    fn end_build(&mut self, now: Time, hold: &BuildReservation, instance: Option<InstanceId>) {
        let (pool, ticket) = (hold.pool, hold.ticket);
        match instance {
            Some(instance) => self.end_running_build(now, instance),
            None => {
                self.builds.waiting.remove(&ticket);
                self.step(now, MachineEvent::Cancel { ticket });
            }
        }
        self.step(now, MachineEvent::Retire { pool });
    }

    fn end_running_build(&mut self, now: Time, instance: InstanceId) {
        let finished = MachineEvent::Finished {
            instance,
            reusable: false,
        };
        self.step(now, finished);
        self.builds.running.remove(&instance);
    }

    /// Releases all builds at shutdown. The next start resumes unfinished ones.
    fn release_builds(&mut self, now: Time) {
        for instance in self.builds.running.clone() {
            self.end_running_build(now, instance);
        }
        self.builds.waiting.clear();
        for (pool, ticket) in self.builds.pools.clone() {
            self.step(now, MachineEvent::Cancel { ticket });
            self.step(now, MachineEvent::Retire { pool });
        }
    }
}
