//! Asynchronous events, timers, and their sources and targets.

use std::path::PathBuf;
use std::time::Duration;

use dispatch::cron::WeekdayZero;
use dispatch::schedule::MissedRuns;
use engine::runner::Endpoint;
use jiff::tz::TimeZone;

use super::option::options;
use super::parse::{Parsed, days, list, milliseconds, number, one_of, refused, seconds};
use model::RecursionDepth;

options! {
    /// Options of asynchronous events and timers.
    EventOptions {
        /// Allowed HTTP targets of dead letters, as http://host:8080, separated by commas; virga sends to them from this host;
        /// empty = none
        dead_letter_endpoints: Vec<Endpoint> = "URLS", "" => list("endpoints such as http://host:8080, without a path");

        /// TOML file with the tokens of external storages that may post change notifications to /events/s3; empty = none
        event_sources: PathBuf = "FILE", "" => |text| Ok(text.into());

        /// Time zone of cron expressions
        cron_zone: TimeZone = "ZONE", "Asia/Shanghai" => cron_zone;

        /// Meaning of weekday 0 in cron expressions: sunday, or monday as in earlier versions of SCF
        cron_weekday_zero: WeekdayZero = "DAY", "sunday" => one_of([("sunday", WeekdayZero::Sunday), ("monday", WeekdayZero::Monday)]);

        /// Missed timer runs after downtime: skip = none, latest = one per timer, all = every run of the last six hours
        timer_missed: MissedRuns = "WHAT", "latest" => one_of([
            ("latest", MissedRuns::Latest),
            ("skip", MissedRuns::Skip),
            ("all", MissedRuns::All),
        ]);

        /// Delay after which a timer run counts as missed (s)
        timer_grace: Duration = "SECONDS", "60" => seconds;

        /// Maximum size of queued and dead-lettered asynchronous events (MB); when full, new events are rejected
        event_store_mb: u64 = "MB", "4096" => number(1..=1 << 30);

        /// Maximum recursion depth: calls, events and bucket triggers in one call chain before the next event fails permanently
        max_depth: RecursionDepth = "NUMBER", "16" => |text| number(1..=u64::from(u32::MAX))(text).map(RecursionDepth);

        /// Number of completed asynchronous events to remember, for up to three days; the oldest are removed first
        event_history: u64 = "NUMBER", "1000000" => number(0..=1_000_000_000);

        /// Delay before an asynchronous event is retried after the function failed (ms)
        event_retry_ms: Duration = "MILLISECONDS", "60000" => milliseconds(1);

        /// Delay before a function's asynchronous events are retried after they were throttled (ms)
        event_throttled_ms: Duration = "MILLISECONDS", "60000" => milliseconds(1);

        /// First delay before an asynchronous event is retried after a platform failure (ms); doubles with each further failure
        event_backoff_ms: Duration = "MILLISECONDS", "1000" => milliseconds(1);

        /// Maximum of that delay (ms)
        event_backoff_max_ms: Duration = "MILLISECONDS", "300000" => milliseconds(1);

        /// Retention of the usage ledger (days)
        usage_retention_days: Duration = "DAYS", "400" => days;
    }
}

fn cron_zone(name: &str) -> Parsed<TimeZone> {
    let allowed = "the name of a time zone, such as Asia/Shanghai or UTC";
    TimeZone::get(name).or_else(|_| refused(name, allowed))
}
