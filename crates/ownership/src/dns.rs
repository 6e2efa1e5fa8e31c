//! DNS lookups of TXT records, within a bounded time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use tokio::sync::Semaphore;
use tracing::warn;

/// Timeout of one query to one server, and the number of attempts.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// Timeout of a whole lookup, including the wait for a permit.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(8);
/// Largest number of concurrent lookups; accounts choose the names.
const CONCURRENT: usize = 16;

/// A DNS server, as `10.0.0.2` or `10.0.0.2:5353`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsServer(SocketAddr);

impl FromStr for DnsServer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let without_port = text
            .parse()
            .map(|address: IpAddr| SocketAddr::from((address, 53)));
        without_port
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| ())
    }
}

/// The DNS client.
pub struct Dns {
    resolver: Option<TokioResolver>,
    permits: Semaphore,
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dns")
    }
}

impl Dns {
    /// Creates a client for these servers, or for those of `/etc/resolv.conf` if there are none.
    pub fn new(servers: &[DnsServer]) -> Self {
        let resolver = build(servers);
        Self {
            resolver: resolver
                .inspect_err(|error| warn!(%error, "no DNS server is known, so no custom domain can be proved; name one with --domain-resolver"))
                .ok(),
            permits: Semaphore::new(CONCURRENT),
        }
    }

    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            resolver: None,
            permits: Semaphore::new(CONCURRENT),
        }
    }

    /// Returns the TXT records of a name; none if DNS answers that there are none.
    ///
    /// # Errors
    /// The reason why there is no answer.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let Some(resolver) = &self.resolver else {
            return Err(
                "no DNS server is known; the operator names one with --domain-resolver".into(),
            );
        };
        let ask = async {
            let _turn = self.permits.acquire().await;
            // The trailing dot disables search domains.
            resolver.txt_lookup(format!("{name}.")).await
        };
        let Ok(asked) = tokio::time::timeout(TOTAL_TIMEOUT, ask).await else {
            return Err(format!(
                "DNS did not answer within {} s",
                TOTAL_TIMEOUT.as_secs()
            ));
        };
        match asked {
            Ok(found) => Ok(found
                .answers()
                .iter()
                .filter_map(|record| text(&record.data))
                .collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(
                    none.response_code,
                    ResponseCode::NoError | ResponseCode::NXDomain
                ) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(format!("DNS: {error}")),
        }
    }
}

fn build(servers: &[DnsServer]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|DnsServer(address)| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            let at = connections.map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, at.to_vec())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = QUERY_TIMEOUT;
    options.attempts = ATTEMPTS;
    // A record that was just published must be seen at once.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// Returns the text of a TXT record, with its parts joined.
fn text(data: &RData) -> Option<String> {
    let RData::TXT(text) = data else {
        return None;
    };
    let parts = text.txt_data.iter();
    let bytes: Vec<u8> = parts.flat_map(|part| part.iter().copied()).collect();
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_servers_are_addresses_with_an_optional_port() {
        for (text, expected) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            let server: DnsServer = text.parse().expect(text);
            assert_eq!(server.0.to_string(), expected);
        }
        for bad in ["", "dns.example", "10.0.0.2:x"] {
            assert!(bad.parse::<DnsServer>().is_err(), "{bad}");
        }
    }
}
