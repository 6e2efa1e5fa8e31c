//! The logs of functions and virga's own log.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::option::options;
use super::parse::{Parsed, days, number, one_of, refused};

options! {
    /// Options of logs.
    LogOptions {
        /// Retention of invocation logs (days)
        log_retention_days: Duration = "DAYS", "7" => days;

        /// Maximum size of the invocation logs (MB); when full, the account with the most loses its oldest
        log_store_mb: u64 = "MB", "1024" => number(1..=1 << 30);

        /// Level of virga's own log: error, warn, info, debug, trace, or a filter by module
        log: String = "FILTER", "info" => filter;

        /// Format of virga's own log: text, json, or auto = text on a terminal, JSON otherwise
        log_format: LogFormat = "FORMAT", "auto" => one_of([
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
        ]);
    }
}

/// The format of virga's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    Auto,
}

fn filter(text: &str) -> Parsed<String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => refused(text, format!("a level or a filter is ({e})")),
    }
}
