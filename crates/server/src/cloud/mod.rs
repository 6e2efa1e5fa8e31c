//! The cloud's own names inside functions: hosts of SCF's API and of COS lead to virga there, as they lead to the cloud in the cloud.
//!
//! Clients that have these hosts built in run unmodified. Three parts make it so: a name server in functions' network
//! ([`resolver`]), which answers for the names of [`CloudNames`] and asks the host's resolvers for all others; listeners at the
//! ports of HTTP and HTTPS; and the local authority, whose certificate has these names and which sandboxes trust. None of it
//! opens anything: requests are signed, and answered as those to `virga.internal` are.

mod answer;
mod names;
mod query_limiter;
mod resolver;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use sandbox::Authority;
use sandbox::network::{API_NAME, CLOUD_PORTS, Network};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::answer::ServiceAddresses;
use self::names::CloudNames;
use self::resolver::Resolver;
use crate::config::Config;
use crate::hosts::CertificateNames;
use crate::listen::Listener;
use crate::network::upstream;
use crate::tls::{self, Source, TlsError, TlsSettings};

/// Everything that serves the cloud's names inside.
#[derive(Debug)]
pub(crate) struct Cloud {
    /// Where SCF's hosts lead: plain, and over TLS.
    pub(crate) api: Vec<Listener>,
    /// Where COS's hosts lead, where virga serves buckets.
    pub(crate) buckets: Vec<Listener>,
    /// The name servers, which end with this.
    pub(crate) resolvers: JoinSet<()>,
}

/// Why the cloud's names cannot be served; each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudError {
    #[error("{0}; --cloud-names off leaves the cloud's names to the host's resolvers")]
    Network(#[from] sandbox::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the cloud's names inside functions: {0}; --cloud-names off does without them")]
    Io(#[from] std::io::Error),
}

impl Cloud {
    /// Begins to answer for the names, and listens where they lead.
    ///
    /// # Errors
    /// [`CloudError`] names the step that failed.
    pub(crate) fn open(config: &Config, network: &Network) -> Result<Self, CloudError> {
        let addresses = ServiceAddresses {
            api: network.plan().gateway(),
            buckets: network.plan().storage(),
        };
        let names = CloudNames::new(&config.region, config.buckets.is_some());
        let resolver = Resolver::new(names, addresses);
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

/// The local authority, for sandboxes to trust. It is made with the first certificate.
///
/// # Errors
/// The disk's.
pub(crate) fn authority(config: &Config) -> Result<Authority, CloudError> {
    let path = config.data.join(tls::DIRECTORY).join(tls::CA);
    Ok(Authority {
        certificate: fs::read_to_string(path)?,
        subject_hash: tls::SUBJECT_HASH.to_owned(),
    })
}

/// Listens for HTTP and for HTTPS at an address inside.
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
        // Whatever the operator's certificate is for, it is not for these names.
        source: Source::Authority,
    };
    let names = CertificateNames::default();
    let tls = tls::open(&settings, &config.data, names, &config.region, domains)?;
    Ok(vec![
        Listener {
            listener: listen(http)?,
            tls: None,
        },
        Listener {
            listener: listen(https)?,
            tls: Some(tls),
        },
    ])
}
