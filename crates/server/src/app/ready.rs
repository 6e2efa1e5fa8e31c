//! The line on standard output that says that virga serves.

use std::io::{self, Write};
use std::net::SocketAddr;

use operator::credentials;
use tls::Source;
use tracing::info;

use super::listeners::Listeners;
use crate::config::Config;

/// All addresses and paths that a client needs.
pub(super) struct ReadyLine {
    address: SocketAddr,
    text: String,
}

impl ReadyLine {
    /// Builds the line. `from_environment`: whether the first key pair is the environment's.
    pub(super) fn new(config: &Config, listeners: &Listeners, from_environment: bool) -> Self {
        let (address, data) = (listeners.address, &config.api.data);
        let credentials = if from_environment {
            "the environment's".to_owned()
        } else {
            data.join(credentials::FILE).display().to_string()
        };
        let data_shown = data.display();
        let mut text = format!(
            "virga is ready: api http://{address}  data {data_shown}  credentials {credentials}"
        );
        if let Some(buckets) = listeners.bucket_address {
            text.push_str(&format!("  buckets http://{buckets}"));
        }
        if let (Some(secure), Some(settings)) = (listeners.tls_address, &config.tls) {
            text.push_str(&format!("  tls https://{secure}"));
            if settings.source == Source::Authority {
                let ca = data.join(tls::DIRECTORY).join(tls::CA);
                text.push_str(&format!("  ca {}", ca.display()));
            }
        }
        if let Some(metrics) = listeners.metrics_address {
            text.push_str(&format!("  metrics http://{metrics}"));
        }
        Self { address, text }
    }

    /// Prints the line, and logs `host`, the summary of the host's features.
    #[expect(clippy::print_stdout, reason = "tools wait for this line")]
    pub(super) fn print(&self, config: &Config, host: &str) {
        println!("{}", self.text);
        let _ = io::stdout().flush();
        let (address, cron_zone) = (self.address, config.events.cron_zone.iana_name());
        info!(%address, host, cron_zone, "ready");
    }
}
