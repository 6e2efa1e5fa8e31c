//! virga's own log.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts the log on standard error.
pub(super) fn start(config: &Config) {
    // s3s logs every rejected request as an error, and signing keys at finer levels.
    let filter = EnvFilter::new(format!("{},s3s=off", config.logs.log));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let json = match config.logs.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    if json {
        builder.json().init();
    } else {
        builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init();
    }
}
