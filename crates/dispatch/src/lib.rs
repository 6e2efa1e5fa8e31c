//! Decisions, and nothing else: which request runs on which instance, when one is started, frozen or stopped.
//!
//! [`Machine::step`] takes the time and an event and says what to do; a driver does it. There is no clock, no
//! I/O and no randomness in here, so that scaling, fairness and limits are tested by simulation over thousands
//! of schedules, each of which can be run again.
//!
//! The rules:
//! * A request takes an idle instance of its pool, the one used last, so that the others can age out. Else it
//!   waits in line, and the pool asks for one start per waiting request. Whichever instance is free first
//!   serves the head of the line.
//! * Where a pool's requests are brief and wait for nothing but a processor, [`Config::brief_at_once`] instances serve them, and
//!   the next waits in line though others idle: more of them would only be slower. When one has waited for 20 ms, the line is
//!   served as any other.
//! * A start needs room in the function's limit, in the account's and in the node's memory, and one of the
//!   node's starting places. The pools of an account get starts in turn, oldest want first.
//! * The node's memory is shared max-min fairly among the accounts that want it: the one that holds least is given the next
//!   instance, and none that holds more starts one while it waits. Nothing that runs is stopped for that.
//! * Where memory is short, idle instances make room: first those of accounts that hold more, least recently used first. Where
//!   nothing is idle, an account that has waited for [`Config::yield_after`] gets the next instance that one holding more than
//!   itself finishes with, and so does a pool from others of its account: no account and no function starves another.
//! * A headroom is kept ([`Config::headroom_mb`]): only an account without instances may use it, for its first one, which so
//!   starts at once though all others are busy. Builds are instances to all these rules, but leave the headroom
//!   ([`PoolSpec::headroom`]). What was taken of it is given back as soon as an account that has more than its
//!   share finishes with an instance.
//! * Starting places are shared, too: an account that has none starting may start one though all places are taken.
//! * An idle instance is frozen after a moment and stopped after its keep-alive; a function scales to zero.
//! * A pool may keep instances ahead of need: its floor. They are started before what requests want, and none of them is stopped
//!   to make room, unless for an account that has less even then; one that dies is replaced; after a failed start the next is tried a little later each time.
//! * An account starts so many instances for requests at once, and then so many in a minute ([`Config::starts_per_minute`]).
//! * A retired pool takes no new requests, serves those that wait, and goes when its last instance is gone.
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
