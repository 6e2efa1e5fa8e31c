//! What goes into a decision and what comes out.

use crate::{AccountId, GroupId, InstanceId, PoolId, Ticket, Time};

/// The node's bounds.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Memory that an account's instances may have together, MB, until [`MachineEvent::Unreserved`] says otherwise.
    pub account_mb: u64,
    /// Memory that this node's instances may have together, MB.
    pub node_mb: u64,
    /// The headroom, MB: memory that accounts with instances leave to those without, for their first one.
    pub headroom_mb: u64,
    /// Headroom for each account without instances, MB, where together that is more than `headroom_mb`; up to a quarter of the
    /// node. 0 leaves it at `headroom_mb`.
    pub first_mb: u64,
    /// Instances that may be starting at a time.
    pub max_starting: u32,
    /// Requests that may wait in one pool.
    pub max_waiting: usize,
    /// Starts that may fail in a row by the platform's fault before a request is told.
    pub max_start_attempts: u8,
    /// Instances that an account may start in a minute for requests, once it has started as many; 0 is no bound.
    pub starts_per_minute: u32,
    /// Requests that a pool of brief ones runs at a time while there are no more of them than its instances soon come to; 0 is no
    /// bound. See [`MachineEvent::ShortRequests`].
    pub brief_at_once: usize,
    /// How long a pool waits for memory before others that hold more must hand over, microseconds.
    pub yield_after: u64,
}

/// What a pool's instances are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Whose limit they count against.
    pub group: GroupId,
    /// Whose quota they count against.
    pub account: AccountId,
    /// Memory of one, MB.
    pub memory_mb: u64,
    /// Requests that one serves at a time; 1 or more.
    pub slots: u32,
    /// Memory that is set aside for the group, and all that its instances may have together, MB; `None` is what the
    /// account has left.
    pub reserved_mb: Option<u64>,
    /// Whether an account's first instance may use the headroom. A build may not: it is no call that somebody waits for.
    pub headroom: bool,
    /// How long one idles before it is stopped, microseconds.
    pub keep_alive: u64,
    /// How long one idles before it is frozen, microseconds.
    pub freeze_after: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum MachineEvent {
    /// A pool is there, or its settings have changed.
    Open {
        /// Which.
        pool: PoolId,
        /// Its settings.
        spec: PoolSpec,
    },
    /// What is set aside for a group has changed.
    Reserve {
        /// Which.
        group: GroupId,
        /// As [`PoolSpec::reserved_mb`].
        reserved_mb: Option<u64>,
    },
    /// What an account has for the groups for which nothing is set aside. What idles above it is stopped.
    Unreserved {
        /// Which.
        account: AccountId,
        /// Their memory together, MB.
        mb: u64,
    },
    /// How many accounts there are, with instances or without.
    Accounts {
        /// So many.
        count: usize,
    },
    /// How many instances a pool keeps ahead of need, which neither its keep-alive nor a shortage of memory ends. One that
    /// dies is replaced. Limits hold for them, too.
    Provision {
        /// Which.
        pool: PoolId,
        /// So many.
        provisioned_min: usize,
    },
    /// A pool is replaced or deleted: no new requests; those that wait are still served.
    Retire {
        /// Which.
        pool: PoolId,
    },
    /// A request came. It waits in line until its deadline.
    Request {
        /// Its name.
        ticket: Ticket,
        /// What it is for.
        pool: PoolId,
        /// When waiting ends, unless an instance is on its way for everyone in line.
        deadline: Time,
    },
    /// A waiting request was given up by its caller.
    Cancel {
        /// Which.
        ticket: Ticket,
    },
    /// A start ended well.
    Started {
        /// Which.
        instance: InstanceId,
    },
    /// A start failed, and nothing is left of the instance.
    StartFailed {
        /// Which.
        instance: InstanceId,
        /// Whose fault it is.
        fault: StartFault,
    },
    /// A request ended. An instance that is not reusable has ended with it, and so do the others that it serves.
    Finished {
        /// On which.
        instance: InstanceId,
        /// Whether it can serve again.
        reusable: bool,
    },
    /// What an instance's requests have been like.
    ShortRequests {
        /// Which.
        instance: InstanceId,
        /// Whether they take next to no time, and all of it a processor's.
        short: bool,
    },
    /// An instance that served nothing ended by itself, or one that was to be stopped has ended.
    Ended {
        /// Which.
        instance: InstanceId,
    },
    /// The time that the last `WakeAt` named has come.
    Wake,
    /// Shutdown: no new requests; what idles is stopped.
    Drain,
}

/// Whose fault a failed start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFault {
    /// The user's code; one waiting request is answered with it.
    User,
    /// The platform's; another start is tried.
    Platform,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineEffect {
    /// Start an instance.
    Start {
        /// Its name.
        instance: InstanceId,
        /// Of which pool.
        pool: PoolId,
        /// Whether it is for the pool's floor, not for a request.
        provisioned: bool,
    },
    /// Run a request on an instance.
    Assign {
        /// The request.
        ticket: Ticket,
        /// The instance.
        instance: InstanceId,
        /// Whether it is the instance's first.
        first: bool,
        /// Whether the instance is frozen.
        frozen: bool,
    },
    /// Refuse a request.
    Reject {
        /// The request.
        ticket: Ticket,
        /// Why.
        reason: Reject,
    },
    /// Freeze an idle instance.
    Freeze {
        /// Which.
        instance: InstanceId,
    },
    /// Stop an idle instance; [`MachineEvent::Ended`] tells when it is gone.
    Stop {
        /// Which.
        instance: InstanceId,
    },
    /// Send [`MachineEvent::Wake`] at this time, and no longer at an earlier named one.
    WakeAt {
        /// When.
        at: Time,
    },
    /// Nothing is left of a retired pool.
    PoolEmpty {
        /// Which.
        pool: PoolId,
    },
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// No instance was free before the deadline.
    Deadline {
        /// What kept another from being started.
        limit: Limit,
    },
    /// Waiting cannot help: a single instance does not fit.
    Never {
        /// Into what.
        limit: Limit,
    },
    /// Too many requests wait already.
    QueueFull,
    /// The start of an instance failed.
    StartFailed {
        /// Which.
        instance: InstanceId,
    },
    /// The pool is unknown or retired; look the function up again.
    Gone,
    /// The node is shutting down.
    Draining,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// What is set aside for the function.
    Group,
    /// What the account has for functions without anything set aside.
    Account,
    /// The node's memory.
    Node,
    /// The account has started as many instances as it may in this time.
    Rate,
    /// Only time: starts are under way.
    Starting,
}

/// How many there are, of one pool or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Instances that are starting.
    pub starting: usize,
    /// Instances that serve.
    pub busy: usize,
    /// Instances that idle, frozen or not.
    pub idle: usize,
    /// Of these, the frozen ones.
    pub frozen: usize,
    /// Instances that are being stopped.
    pub stopping: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Instances that are to be kept ahead of need.
    pub provisioned_min: usize,
    /// Of these, as many are there, whether they idle or serve.
    pub ready: usize,
}
