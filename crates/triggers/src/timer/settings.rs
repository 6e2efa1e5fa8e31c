//! The settings of timers.

use dispatch::cron::WeekdayZero;
use dispatch::schedule::ScheduleConfig;

/// Settings of timers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time zone, and the rules for missed runs.
    pub terms: ScheduleConfig,
    /// The meaning of weekday 0 in cron expressions.
    pub weekday_zero: WeekdayZero,
}
