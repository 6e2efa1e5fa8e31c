//! Input and output of the state machine: configuration, events, effects and statistics.

use crate::{AccountId, GroupId, InstanceId, PoolId, Ticket, Time};

/// Limits of the node.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Quota of an account until [`MachineEvent::Unreserved`] sets another, MB.
    pub account_mb: u64,
    /// Memory of all instances on this node together, MB.
    pub node_mb: u64,
    /// Headroom, MB: memory that accounts with instances leave free for the first instance of accounts without any.
    pub headroom_mb: u64,
    /// Headroom per account without instances, MB, where the sum exceeds `headroom_mb`; capped at a quarter of the
    /// node. 0 = `headroom_mb` alone.
    pub first_mb: u64,
    /// Maximum number of instances that start at the same time (start slots).
    pub max_starting: u32,
    /// Maximum number of waiting requests per pool.
    pub max_waiting: usize,
    /// Consecutive platform failures of a pool's starts before a waiting request is rejected.
    pub max_start_attempts: u8,
    /// Starts for requests per account and minute, with a burst of the same size; 0 = unlimited.
    pub starts_per_minute: u32,
    /// Instances of a pool that serve short requests at a time; 0 = unlimited. See [`MachineEvent::ShortRequests`].
    pub short_request_concurrency: usize,
    /// Wait for memory after which larger accounts and pools must hand over an instance, microseconds.
    pub yield_after: u64,
}

/// Properties of a pool's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// The function whose limit they count against.
    pub group: GroupId,
    /// The account whose quota they count against.
    pub account: AccountId,
    /// Memory of one instance, MB.
    pub memory_mb: u64,
    /// Concurrent requests per instance; at least 1.
    pub slots: u32,
    /// Memory reserved for the function, which is also its limit, MB; `None` = it uses the account's unreserved quota.
    pub reserved_mb: Option<u64>,
    /// Whether the account's first instance may use the headroom. Builds may not: no caller waits for them.
    pub headroom: bool,
    /// Idle time before an instance is stopped, microseconds.
    pub keep_alive: u64,
    /// Idle time before an instance is frozen, microseconds.
    pub freeze_after: u64,
}

/// An input of the state machine.
#[derive(Clone, Copy, Debug)]
pub enum MachineEvent {
    /// A pool was opened, or its settings have changed.
    Open {
        /// The pool.
        pool: PoolId,
        /// Its settings.
        spec: PoolSpec,
    },
    /// The reserved memory of a function has changed.
    Reserve {
        /// The function.
        group: GroupId,
        /// See [`PoolSpec::reserved_mb`].
        reserved_mb: Option<u64>,
    },
    /// The unreserved quota of an account has changed. Idle instances above it are stopped.
    Unreserved {
        /// The account.
        account: AccountId,
        /// Memory for all functions without reserved memory together, MB.
        mb: u64,
    },
    /// The number of accounts has changed, with instances or without.
    Accounts {
        /// The new number.
        count: usize,
    },
    /// Sets the provisioned minimum of a pool. These instances survive keep-alive expiry and memory pressure, and are
    /// replaced when they die. Limits apply to them as well.
    Provision {
        /// The pool.
        pool: PoolId,
        /// Minimum number of instances.
        provisioned_min: usize,
    },
    /// A pool was replaced or deleted. It takes no new requests; those that wait are still served.
    Retire {
        /// The pool.
        pool: PoolId,
    },
    /// A request arrived. It waits in the queue until its deadline.
    Request {
        /// Identifies the request.
        ticket: Ticket,
        /// The pool that is to serve it.
        pool: PoolId,
        /// End of the wait, unless starting instances cover every waiting request.
        deadline: Time,
    },
    /// The caller has cancelled a waiting request.
    Cancel {
        /// The request.
        ticket: Ticket,
    },
    /// An instance has started.
    Started {
        /// The instance.
        instance: InstanceId,
    },
    /// A start failed, and nothing is left of the instance.
    StartFailed {
        /// The instance.
        instance: InstanceId,
        /// The cause.
        fault: StartFault,
    },
    /// A request has ended. An instance that is not reusable has ended with it, and so have its other requests.
    Finished {
        /// The instance that served it.
        instance: InstanceId,
        /// Whether the instance can serve another request.
        reusable: bool,
    },
    /// Reports whether the latest requests of an instance were short.
    ShortRequests {
        /// The instance.
        instance: InstanceId,
        /// Whether they took next to no time, all of it on a processor.
        short: bool,
    },
    /// An instance without requests has ended, on its own or because it was stopped.
    Ended {
        /// The instance.
        instance: InstanceId,
    },
    /// The time of the last `WakeAt` has come.
    Wake,
    /// Shutdown: no new requests; idle instances are stopped.
    Drain,
}

/// Cause of a failed start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// The user's code; one waiting request is answered with the failure.
    User,
    /// The platform; the start is retried.
    Platform,
}

/// An action for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEffect {
    /// Start an instance.
    Start {
        /// Identifies the new instance.
        instance: InstanceId,
        /// Its pool.
        pool: PoolId,
        /// Whether it counts towards the provisioned minimum rather than serving a request.
        provisioned: bool,
    },
    /// Run a request on an instance.
    Assign {
        /// The request.
        ticket: Ticket,
        /// The instance.
        instance: InstanceId,
        /// Whether it is the instance's first request.
        first: bool,
        /// Whether the instance is frozen.
        frozen: bool,
    },
    /// Reject a request.
    Reject {
        /// The request.
        ticket: Ticket,
        /// The reason.
        reason: Reject,
    },
    /// Freeze an idle instance.
    Freeze {
        /// The instance.
        instance: InstanceId,
    },
    /// Stop an idle instance; [`MachineEvent::Ended`] reports its end.
    Stop {
        /// The instance.
        instance: InstanceId,
    },
    /// Send [`MachineEvent::Wake`] at this time. Replaces an earlier `WakeAt`.
    WakeAt {
        /// The time.
        at: Time,
    },
    /// A retired pool has no instances and requests left.
    PoolEmpty {
        /// The pool.
        pool: PoolId,
    },
}

/// Reason for rejecting a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No instance was free before the deadline.
    Deadline {
        /// The limit that prevented another start.
        limit: Limit,
    },
    /// Not even a single instance fits; waiting cannot help.
    Never {
        /// The limit that is too low.
        limit: Limit,
    },
    /// The pool's queue is full.
    QueueFull,
    /// The start of an instance failed.
    StartFailed {
        /// The instance.
        instance: InstanceId,
    },
    /// The pool is unknown or retired. The caller must look the function up again.
    Gone,
    /// The node is shutting down.
    Draining,
}

/// A resource that is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Reserved memory of the function.
    Group,
    /// Unreserved quota of the account.
    Account,
    /// The node's memory.
    Node,
    /// Start rate of the account.
    Rate,
    /// None but time: starts are in progress.
    Starting,
}

/// Instance and request counts of one pool, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Starting instances.
    pub starting: usize,
    /// Instances that serve requests.
    pub busy: usize,
    /// Idle instances, frozen or not.
    pub idle: usize,
    /// Frozen instances, which are included in `idle`.
    pub frozen: usize,
    /// Instances that are being stopped.
    pub stopping: usize,
    /// Waiting requests.
    pub waiting: usize,
    /// Provisioned minimum.
    pub provisioned_min: usize,
    /// Instances of the provisioned minimum that are idle or busy.
    pub ready: usize,
}
