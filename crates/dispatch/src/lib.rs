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
//!   node's starting places. Pools that want starts get them in turn, oldest want first.
//! * Where memory is short, idle instances of others make room, least recently used first. Where nothing is
//!   idle, a pool that has waited for [`Config::yield_after`] gets the next instance that a pool holding more
//!   than itself finishes with: no function starves another.
//! * An idle instance is frozen after a moment and stopped after its keep-alive; a function scales to zero.
//! * A pool may keep instances ahead of need: its floor. They are started before what requests want, none of them is stopped
//!   to make room, and one that dies is replaced; after a failed start the next is tried a little later each time.
//! * An account starts so many instances for requests at once, and then so many in a minute ([`Config::starts_per_minute`]).
//! * A retired pool takes no new requests, serves those that wait, and goes when its last instance is gone.
#![forbid(unsafe_code)]

pub mod cron;
pub mod events;
mod ids;
mod machine;
mod pool;
mod rate;
mod room;
pub mod schedule;
mod timer;
mod tracking;
mod types;

pub use ids::{AccountId, GroupId, InstanceId, PoolId, Ticket, Time, TimerId};
pub use machine::{Machine, keepable_mb};
pub use tracking::{TRACKING_EVERY_S, Tracking, TrackingTarget};
pub use types::{Config, Effect, Event, Limit, PoolSpec, PoolStats, Reject, StartFault};
