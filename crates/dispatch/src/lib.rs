//! Scheduling decisions as a pure state machine: which request runs on which instance, and when an instance is started,
//! frozen or stopped.
//!
//! [`Machine::step`] takes the time and a [`MachineEvent`] and returns [`MachineEffect`]s; a driver performs them. The
//! crate has no clock, no I/O and no randomness. A simulation therefore tests scaling, fairness and limits over
//! thousands of schedules, and each schedule can be replayed by its seed.
//!
//! The rules:
//! * Reuse: a request takes an idle instance of its pool, the most recently used first, so that the others reach their
//!   keep-alive. Without an idle instance it waits in the pool's queue (FIFO), and the pool asks for one start per
//!   waiting request. Whichever instance is free first serves the head of the queue.
//! * Short-request detection: where a pool's requests are short and purely CPU-bound, at most [`Config::short_request_concurrency`]
//!   instances serve them, and the next requests wait even if other instances are idle: more instances would only be
//!   slower. If a request has waited for 20 ms, the pool is scaled as any other.
//! * Admission: a start needs capacity in the function's limit, the account's quota and the node's memory, and one of
//!   the node's start slots. The pools of one account get starts in turn, oldest pending start first.
//! * Max-min fairness: the account that holds the least memory gets the next instance. No account that holds more
//!   starts one while it waits. Running instances are never stopped for that.
//! * Eviction: when memory is short, idle instances are evicted, those of accounts that hold more first, then the least
//!   recently used. If nothing is idle, an account that has waited for [`Config::yield_after`] gets the next instance
//!   that a larger account finishes with. The same holds between pools of one account. No account and no function
//!   starves another.
//! * Headroom: [`Config::headroom_mb`] is reserved for the first instance of accounts without any, so that it starts at
//!   once even if all others are busy. A build is an instance to all these rules but may not use the headroom
//!   ([`PoolSpec::headroom`]). Used headroom is restored as soon as an account above its fair share finishes with an
//!   instance.
//! * Start slots are fair, too: an account without a starting instance may start one even if all slots are taken.
//! * Scale to zero: an idle instance is frozen after a moment and stopped after its keep-alive.
//! * Provisioned minimum: a pool may keep instances warm ahead of need. They start before pending starts of requests
//!   and are not evicted, except for an account that holds less even afterwards. An instance that dies is replaced;
//!   failed starts are retried with exponential backoff.
//! * Start rate: a token bucket per account limits starts for requests ([`Config::starts_per_minute`]).
//! * Retirement: a retired pool takes no new requests, serves those that wait, and is removed with its last instance.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as dispatch;

mod capacity;
pub mod cron;
pub mod events;
mod ids;
mod machine;
mod pool;
mod rate;
mod rule;
pub mod schedule;
#[cfg(test)]
mod sim;
mod timer;
mod tracking;
mod types;

pub use ids::{AccountId, GroupId, InstanceId, PoolId, Ticket, Time, TimerId};
pub use machine::Machine;
pub use tracking::{TRACKING_INTERVAL_S, Tracking, TrackingTarget};
pub use types::{
    Config, Limit, MachineEffect, MachineEvent, PoolSpec, PoolStats, Reject, StartFault,
};
