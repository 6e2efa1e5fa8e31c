//! The network of functions, and virga's services in it.

use std::io;
use std::net::SocketAddr;

use engine::index_proxy::IndexProxy;
use sandbox::network::{API_PORT, BUCKET_PORT, INDEX_PORT, Network};
use sandbox::{Authority, Isolation};
use tokio::net::TcpListener;
use traffic::listen::Listener;

use super::error::StartError;
use super::listeners::bind;
use super::parts::Parts;
use crate::claims::Claim;
use crate::cloud::{self, Cloud};
use crate::config::{BuildNetwork, Config};
use crate::network;

/// Listeners and proxies in the functions' network. Without a network all are empty.
#[derive(Debug, Default)]
pub(super) struct Inside {
    /// Of the API.
    pub(super) api: Vec<Listener>,
    /// Of the bucket API.
    pub(super) buckets: Vec<Listener>,
    /// The proxy that adds credentials to requests to the package index.
    pub(super) index: Option<IndexProxy>,
    /// The authority that sandboxes trust, if the cloud's names lead to virga.
    pub(super) authority: Option<Authority>,
}

/// Creates the network and starts virga's services in it.
pub(super) async fn open(
    parts: &mut Parts,
    config: &Config,
    claim: &Claim,
) -> Result<(Option<Network>, Inside), StartError> {
    let network = network::open(config, claim).map_err(worker::Error::from)?;
    let index = index_proxy(config, network.as_ref()).await?;
    let Some(found) = &network else {
        let inside = Inside {
            index,
            ..Inside::default()
        };
        return Ok((network, inside));
    };
    let mut inside = Inside {
        api: vec![Listener::plain(listen(found, API_PORT)?)],
        index,
        ..Inside::default()
    };
    if config.buckets.is_some() {
        inside
            .buckets
            .push(Listener::plain(listen(found, BUCKET_PORT)?));
    }
    if config.sandbox.cloud_names {
        let cloud = Cloud::open(config, found)?;
        inside.api.extend(cloud.api);
        inside.buckets.extend(cloud.buckets);
        inside.authority = Some(cloud::authority(config)?);
        parts.hold("name servers", cloud.resolvers);
    }
    Ok((network, inside))
}

/// Starts the proxy that adds credentials to requests to the package index, in the network that builds use. Returns `None` if
/// the index needs no credentials or builds have no network.
async fn index_proxy(
    config: &Config,
    network: Option<&Network>,
) -> Result<Option<IndexProxy>, StartError> {
    let index = config.builds.install_index.as_ref();
    let Some(index) = index.filter(|index| index.credentials.is_some()) else {
        return Ok(None);
    };
    let on_host = config.builds.install_network == BuildNetwork::Host
        || config.sandbox.isolation == Isolation::Process;
    let listener = if on_host {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        bind(loopback, "install-index").await?.0
    } else if let Some(network) = network {
        listen(network, INDEX_PORT)?
    } else {
        // Without a network a build cannot reach the index.
        return Ok(None);
    };
    let started = IndexProxy::start(index, listener);
    let step = "start the proxy to the package index";
    started.map(Some).map_err(StartError::io(step))
}

/// Binds a listener in the functions' network.
fn listen(network: &Network, port: u16) -> Result<TcpListener, StartError> {
    let listener = network.listen(port).map_err(worker::Error::from)?;
    into_tokio(listener).map_err(StartError::io("listen for functions"))
}

fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
