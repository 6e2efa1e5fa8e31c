//! Resolves the cloud's host names inside functions: hosts of SCF's API and of COS lead to virga.
//!
//! Clients with built-in hosts run unmodified. Three parts are involved: a name server in the functions' network
//! ([`resolver`]), which answers for [`CloudNames`] and forwards other queries to the host's resolvers; listeners on the
//! HTTP and HTTPS ports; and the local authority, which certifies these names and which sandboxes trust. This grants no
//! access: requests are signed and authorised like those to `virga.internal`.

mod answer;
mod error;
mod names;
mod query_limiter;
mod resolver;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use hosts::CertificateNames;
use sandbox::Authority;
use sandbox::network::{API_NAME, CLOUD_PORTS, Network};
use tls::{Source, TlsSettings};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use traffic::listen::Listener;

use self::answer::ServiceAddresses;
pub(crate) use self::error::CloudError;
use self::names::CloudNames;
use self::resolver::Resolver;
use crate::config::Config;
use crate::network::upstream;

/// Everything that serves the cloud's names inside.
#[derive(Debug)]
pub(crate) struct Cloud {
    /// Listeners for SCF's hosts: HTTP and HTTPS.
    pub(crate) api: Vec<Listener>,
    /// Listeners for COS' hosts, if virga serves buckets.
    pub(crate) buckets: Vec<Listener>,
    /// The name servers, which end on drop.
    pub(crate) resolvers: JoinSet<()>,
}

impl Cloud {
    /// Starts the name servers and the listeners.
    ///
    /// # Errors
    /// [`CloudError`] names the step that failed.
    pub(crate) fn open(config: &Config, network: &Network) -> Result<Self, CloudError> {
        let addresses = ServiceAddresses {
            api: network.plan().gateway(),
            buckets: network.plan().storage(),
        };
        let names = CloudNames::new(&config.api.region, config.buckets.is_some());
        let resolver = Resolver::new(names, addresses, network.links());
        let mut resolvers = JoinSet::new();
        let mut upstream = upstream(config).into_iter();
        for address in network.name_servers() {
            resolver.serve(network, address, upstream.next(), &mut resolvers)?;
        }
        let listeners = |address, domains: &[String]| listeners(config, network, address, domains);
        let buckets = config.buckets.as_ref().map(|settings| {
            let own = vec![API_NAME.to_owned()];
            listeners(addresses.buckets, &[settings.domains.clone(), own].concat())
        });
        Ok(Self {
            api: listeners(addresses.api, &[])?,
            buckets: buckets.transpose()?.unwrap_or_default(),
            resolvers,
        })
    }
}

/// Returns the local authority for sandboxes to trust. It is created with the first certificate.
///
/// # Errors
/// Disk errors.
pub(crate) fn authority(config: &Config) -> Result<Authority, CloudError> {
    let path = config.api.data.join(tls::DIRECTORY).join(tls::CA);
    Ok(Authority {
        certificate: fs::read_to_string(path)?,
        subject_hash: tls::SUBJECT_HASH.to_owned(),
    })
}

/// Listens for HTTP and HTTPS at an address inside.
fn listeners(
    config: &Config,
    network: &Network,
    address: Ipv4Addr,
    domains: &[String],
) -> Result<Vec<Listener>, CloudError> {
    let [http, https] = CLOUD_PORTS;
    let listen = |port| -> Result<TcpListener, CloudError> {
        let listener = network.listen_at(address, port)?;
        listener.set_nonblocking(true)?;
        Ok(TcpListener::from_std(listener)?)
    };
    let settings = TlsSettings {
        listen: SocketAddr::from((address, https)),
        // The operator's certificate does not cover these names.
        source: Source::Authority,
    };
    let names = CertificateNames::default();
    let tls = tls::open(
        &settings,
        &config.api.data,
        names,
        &config.api.region,
        domains,
    )?;
    Ok(vec![
        Listener::plain(listen(http)?),
        Listener {
            listener: listen(https)?,
            tls: Some(tls),
        },
    ])
}
