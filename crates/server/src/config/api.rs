//! The API: its addresses, its identity, and where data is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gateway_scf::MetricsToken;
use hosts::HostPattern;
use model::AccountId;
use tls::{Source, TlsSettings};

use super::data::default_data;
use super::option::options;
use super::parse::{Parsed, base_url, list, optional, or_host, parsed, refused, seconds, text};
use super::raw::RawConfig;

options! {
    /// Options of the API.
    ApiOptions {
        /// Address of the API
        listen: SocketAddr = "ADDRESS", "127.0.0.1:9400" => parsed("an address and port, such as 127.0.0.1:9400");

        /// Address of the API over TLS; empty = no TLS
        tls_listen: Option<SocketAddr> = "ADDRESS", "" => optional(parsed("an address and port, such as 127.0.0.1:9443"));

        /// Certificate chain (PEM); empty = a local authority issues one for the names that official clients use
        tls_cert: PathBuf = "FILE", "" => path;

        /// Private key of tls_cert (PEM); both files are reloaded when they change
        tls_key: PathBuf = "FILE", "" => path;

        /// Separate address for /metrics; empty = on the API's address, for loopback clients or with metrics_token
        metrics_listen: Option<SocketAddr> = "ADDRESS", "" => optional(parsed("an address and port, such as 127.0.0.1:9402"));

        /// File with the bearer token that /metrics requires; empty = no token, loopback clients only unless metrics_listen is set
        metrics_token: Option<MetricsToken> = "FILE", "" => optional(metrics_token);

        /// Data directory; empty = /var/lib/virga, or ~/.local/share/virga for a user other than root
        data: PathBuf = "DIR", "" => or_host(default_data, path);

        /// Base URL of the API in the URLs that virga returns; empty = the Host header of each request
        public_url: Option<String> = "URL", "" => optional(base_url);

        /// Additional host names of the API, as NAME or *.NAME, separated by commas; none of them can become a custom domain
        api_hosts: Vec<HostPattern> = "NAMES", "" => list("hosts such as api.example.com or *.api.example.com");

        /// Region name that functions and clients see
        region: String = "NAME", "ap-guangzhou" => text;

        /// AppId of the first account, which is the operator's
        app_id: AccountId = "NUMBER", "1250000000" => |text| parsed("a number")(text).map(AccountId);

        /// Uin of the first account
        uin: u64 = "NUMBER", "100000000001" => parsed("a number");

        /// Maximum time to receive a request's headers, and idle time before a connection is closed (s)
        head_timeout: Duration = "SECONDS", "75" => seconds;

        /// Maximum time that running requests may take after SIGTERM (s)
        drain_timeout: Duration = "SECONDS", "30" => seconds;
    }
}

impl ApiOptions {
    /// Returns the settings of TLS; `None` without TLS.
    pub(super) fn tls(&self, raw: &mut RawConfig) -> Option<TlsSettings> {
        let (cert, key) = (raw.is_set("tls_cert"), raw.is_set("tls_key"));
        if (cert || key) && !raw.is_set("tls_listen") {
            let problem =
                "tls_listen: it is missing; tls_cert and tls_key need it, such as 127.0.0.1:9443";
            raw.problems.push(problem.to_owned());
        }
        if cert != key {
            let missing = if cert { "tls_key" } else { "tls_cert" };
            raw.problems.push(format!(
                "{missing}: it is missing; set tls_cert and tls_key together, or neither"
            ));
        }
        let source = if cert && key {
            Source::Files {
                cert: self.tls_cert.clone(),
                key: self.tls_key.clone(),
            }
        } else {
            Source::Authority
        };
        let listen = self.tls_listen?;
        Some(TlsSettings { listen, source })
    }
}

fn path(text: &str) -> Parsed<PathBuf> {
    Ok(text.into())
}

/// Reads the token file. Error messages never contain the token.
fn metrics_token(path: &str) -> Parsed<MetricsToken> {
    let read = std::fs::read_to_string(path).map_err(|e| format!("failed to read it: {e}"));
    let token = read.and_then(|text| MetricsToken::parse(&text));
    token.or_else(|why| refused(path, format!("a file with a token is ({why})")))
}
