//! The listeners on the host's addresses. They are bound before anything is changed, and served when everything else runs.

use std::net::SocketAddr;

use gateway_cos::BucketSettings;
use hosts::CertificateNames;
use sandbox::network::API_NAME;
use tls::TlsSettings;
use tokio::net::TcpListener;
use traffic::listen::Listener;

use super::error::StartError;
use crate::config::Config;

/// The bound listeners and their addresses.
#[derive(Debug)]
pub(super) struct Listeners {
    /// Of the API: without TLS, then with it.
    pub(super) api: Vec<Listener>,
    pub(super) address: SocketAddr,
    pub(super) tls_address: Option<SocketAddr>,
    /// The names in the API's certificate.
    pub(super) certificate: CertificateNames,
    /// Of the metrics page, if it has a listener of its own.
    pub(super) metrics: Option<Listener>,
    pub(super) metrics_address: Option<SocketAddr>,
    /// Of the bucket API; none if buckets are disabled.
    pub(super) buckets: Vec<Listener>,
    pub(super) bucket_address: Option<SocketAddr>,
}

impl Listeners {
    /// Binds all listeners.
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let (listener, address) = bind(config.api.listen, "listen").await?;
        let mut bound = Self {
            api: vec![Listener::plain(listener)],
            address,
            tls_address: None,
            certificate: CertificateNames::default(),
            metrics: None,
            metrics_address: None,
            buckets: Vec::new(),
            bucket_address: None,
        };
        if let Some(settings) = &config.tls {
            let (listener, address) = bind(settings.listen, "tls-listen").await?;
            let names = bound.certificate.clone();
            bound
                .api
                .push(secure(listener, config, settings, names, &[])?);
            bound.tls_address = Some(address);
        }
        if let Some(address) = config.api.metrics_listen {
            let (listener, address) = bind(address, "metrics-listen").await?;
            bound.metrics = Some(Listener::plain(listener));
            bound.metrics_address = Some(address);
        }
        if let Some(settings) = &config.buckets {
            bound.bind_buckets(config, settings).await?;
        }
        Ok(bound)
    }

    async fn bind_buckets(
        &mut self,
        config: &Config,
        settings: &BucketSettings,
    ) -> Result<(), StartError> {
        let (listener, address) = bind(settings.listen, "bucket-listen").await?;
        self.buckets.push(Listener::plain(listener));
        self.bucket_address = Some(address);
        if let (Some(tls), Some(address)) = (&config.tls, settings.tls_listen) {
            let (listener, _) = bind(address, "bucket-tls-listen").await?;
            let domains = [settings.domains.as_slice(), &[API_NAME.to_owned()]].concat();
            let names = CertificateNames::default();
            self.buckets
                .push(secure(listener, config, tls, names, &domains)?);
        }
        Ok(())
    }
}

/// Adds TLS to a listener.
fn secure(
    listener: TcpListener,
    config: &Config,
    settings: &TlsSettings,
    names: CertificateNames,
    domains: &[String],
) -> Result<Listener, StartError> {
    let tls = tls::open(
        settings,
        &config.api.data,
        names,
        &config.api.region,
        domains,
    )?;
    Ok(Listener {
        listener,
        tls: Some(tls),
    })
}

/// Binds an address, which is the value of an option.
pub(super) async fn bind(
    wanted: SocketAddr,
    option: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen {
        address: wanted,
        option,
        source,
    };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
