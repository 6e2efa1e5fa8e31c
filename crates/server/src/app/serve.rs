//! Serves the listeners: the API, function URLs, metrics and buckets, to clients outside and to functions inside.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bucket::BucketServer;
use gateway_scf::{
    Gateway, inside_router, metrics_router, router, secure_inside_router, secure_router,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service;
use traffic::listen::{self, Http, Listener};
use traffic::{Peer, RequestBody, Traffic, TrafficRules};
use urls::{ListenerKind, UrlRouter, Urls};

use super::host::open_files;
use super::inside::Inside;
use super::listeners::Listeners;
use super::parts::Parts;
use super::settings;
use crate::config::Config;

/// Time that connections with a response in progress have at shutdown. Idle ones are closed immediately.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The tasks that serve listeners. They outlive their listeners, so that running requests are answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<JoinSet<()>>>);

impl Connections {
    /// Adds an empty set to the parts.
    pub(super) fn start(parts: &mut Parts) -> Self {
        let connections = Self::default();
        let answering = connections.clone();
        parts.add("connections", |_| async move {
            let tasks = std::mem::take(&mut *answering.tasks());
            let _ = tokio::time::timeout(RESPONSE_TIMEOUT, tasks.join_all()).await;
        });
        connections
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks().spawn(task);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves all listeners until the parts stop.
pub(super) fn start(
    parts: &mut Parts,
    config: &Config,
    connections: Connections,
    (listeners, inside): (Listeners, Inside),
    (gateway, urls): (Arc<Gateway>, Arc<Urls>),
    buckets: Option<BucketServer>,
) {
    let (stop, stopped) = watch::channel(());
    let traffic = |rules, proxies| {
        let metrics = gateway.metrics.clone();
        let traffic = Traffic::start(rules, proxies, &config.api.data, metrics, stopped.clone());
        traffic.register_gauges(gateway.exporter.gauges());
        traffic
    };
    let settings = settings::traffic(config);
    let (head, files) = (config.api.head_timeout, open_files());
    let outside = TrafficRules::outside(&settings, head, files);
    let server = Server {
        outside: traffic(outside, &settings.proxies),
        inside: traffic(TrafficRules::inside(&settings, head, files), &[]),
        gateway: gateway.clone(),
        connections,
        stopped: stopped.clone(),
        urls,
    };
    for listener in listeners.api {
        server.serve_api(listener);
    }
    for listener in inside.api {
        server.serve_api_inside(listener);
    }
    if let Some(listener) = listeners.metrics {
        server.serve_metrics(listener);
    }
    if let Some(buckets) = buckets {
        gateway_cos::register_gauges(&buckets, server.gateway.exporter.gauges());
        for listener in listeners.buckets {
            server.serve_buckets(listener, buckets.clone(), false);
        }
        for listener in inside.buckets {
            server.serve_buckets(listener, buckets.clone(), true);
        }
    }
    parts.hold("listeners", stop);
}

/// Everything that a listener needs.
struct Server {
    gateway: Arc<Gateway>,
    urls: Arc<Urls>,
    /// Traffic control for clients outside and for functions.
    outside: Traffic,
    inside: Traffic,
    connections: Connections,
    stopped: watch::Receiver<()>,
}

impl Server {
    /// Serves the API and function URLs to clients outside.
    fn serve_api(&self, listener: Listener) {
        let gateway = self.gateway.clone();
        let (kind, routes) = match &listener.tls {
            None => (ListenerKind::Plain, router(gateway)),
            Some(_) => (ListenerKind::Tls, secure_router(gateway)),
        };
        let urls = UrlRouter::new(self.urls.clone(), kind, routes);
        self.route(listener, self.outside.clone(), urls);
    }

    /// Serves the API and function URLs to functions.
    fn serve_api_inside(&self, listener: Listener) {
        let gateway = self.gateway.clone();
        let routes = match &listener.tls {
            None => inside_router(gateway),
            Some(_) => secure_inside_router(gateway),
        };
        let urls = UrlRouter::new(self.urls.clone(), ListenerKind::Inside, routes);
        self.route(listener, self.inside.clone(), urls);
    }

    fn route(&self, listener: Listener, traffic: Traffic, urls: UrlRouter) {
        let urls = Arc::new(urls);
        let answer = move |request: Request<RequestBody>, peer: Peer| {
            let (urls, request) = (urls.clone(), with_peer(request, peer));
            async move { urls.answer(request).await }
        };
        let stopped = self.stopped.clone();
        self.connections.spawn(listen::serve(
            listener,
            Http::new(),
            traffic,
            answer,
            stopped,
        ));
    }

    fn serve_metrics(&self, listener: Listener) {
        let routes = metrics_router(self.gateway.clone());
        let answer = move |request: Request<RequestBody>, peer: Peer| {
            let (mut routes, request) = (routes.clone(), with_peer(request, peer));
            async move {
                let answered = routes.call(request).await;
                answered.unwrap_or_else(|never| match never {})
            }
        };
        let (traffic, stopped) = (self.outside.clone(), self.stopped.clone());
        self.connections.spawn(listen::serve(
            listener,
            Http::new(),
            traffic,
            answer,
            stopped,
        ));
    }

    fn serve_buckets(&self, listener: Listener, buckets: BucketServer, inside: bool) {
        let access = self.gateway.access.clone();
        let callers = gateway_cos::Callers { access, inside };
        let traffic = if inside { &self.inside } else { &self.outside };
        self.connections.spawn(gateway_cos::serve(
            listener,
            Http::new(),
            traffic.clone(),
            (buckets, callers),
            self.gateway.metrics.clone(),
            self.stopped.clone(),
        ));
    }
}

fn with_peer(request: Request<RequestBody>, peer: Peer) -> Request<Body> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    request
}
