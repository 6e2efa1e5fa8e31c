//! The way from builds to a package index of the operator's that asks for credentials: a reverse proxy that adds them.
//!
//! A build gets a URL of the proxy with a token of its own, good for as long as it runs. Only what lies beside the index is
//! asked for, by GET and HEAD, so that the credentials give nothing else away; and they go to the index alone: a redirection
//! elsewhere is handed to the build, which follows it without them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use axum::http::{Method, Request, Response, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::config::PackageIndex;

/// Connections of one address, and of all. Whoever has no token holds one for a head's time at most.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 256;
/// How long a head may take, how long the index may take to be reached, and how long it may be silent.
const HEAD: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest page of an index in which links are rewritten, bytes.
const PAGE_MAX: usize = 32 << 20;
/// The user name of builds.
const BUILD_USER: &str = "build";
/// What is passed on to the index, and back.
const REQUEST_HEADERS: &[HeaderName] = &[ACCEPT, RANGE];
const RESPONSE_HEADERS: &[HeaderName] = &[CONTENT_TYPE, CONTENT_LENGTH, ETAG, LAST_MODIFIED];

/// A handle. Clones share it.
#[derive(Clone)]
pub(crate) struct IndexProxy {
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    index: Index,
    authorization: HeaderValue,
    /// Where builds reach it.
    address: SocketAddr,
    /// What builds that run send as `Authorization`.
    tokens: Mutex<HashSet<String>>,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// Where an index is.
#[derive(Debug)]
struct Index {
    /// Scheme, host and port.
    origin: String,
    /// The index' own path.
    path: String,
    /// The path of what lies beside it, with a `/` at its end: its files are there.
    base_path: String,
}

/// The right of a build to use the proxy, until this is dropped.
pub(crate) struct IndexAccess {
    /// The index' URL for pip.
    pub(crate) url: String,
    token: String,
    shared: Arc<Shared>,
}

impl Drop for IndexAccess {
    fn drop(&mut self) {
        let tokens = self.shared.tokens.lock();
        tokens
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.token);
    }
}

impl std::fmt::Debug for IndexProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexProxy")
            .field("index", &self.shared.index)
            .finish_non_exhaustive()
    }
}

impl IndexProxy {
    /// A proxy of an index that has credentials, for builds that find it at this listener.
    ///
    /// # Errors
    /// Says what cannot be used.
    pub(crate) fn start(index: &PackageIndex, listener: TcpListener) -> io::Result<Self> {
        // The client takes the ciphers that the process has. Where there are some already, they do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(io::Error::other)?;
        let (user, password) = index.credentials.clone().unwrap_or_default();
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut authorization = HeaderValue::try_from(basic).map_err(io::Error::other)?;
        authorization.set_sensitive(true);
        let proxy = Self {
            shared: Arc::new(Shared {
                client,
                index: Index::of(&index.url),
                authorization,
                address: listener.local_addr()?,
                tokens: Mutex::default(),
                connections: Mutex::default(),
            }),
        };
        tokio::spawn(serve(proxy.shared.clone(), listener));
        Ok(proxy)
    }

    /// Lets a build in.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(crate) fn access(&self) -> io::Result<IndexAccess> {
        let mut secret = [0; 24];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let secret = hex::encode(secret);
        let token = format!(
            "Basic {}",
            STANDARD.encode(format!("{BUILD_USER}:{secret}"))
        );
        let shared = self.shared.clone();
        let tokens = shared.tokens.lock();
        tokens
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token.clone());
        let url = format!(
            "http://{BUILD_USER}:{secret}@{}{}",
            shared.address, shared.index.path
        );
        Ok(IndexAccess { url, token, shared })
    }
}

impl Index {
    fn of(url: &str) -> Self {
        let host = url.find("://").map_or(0, |at| at + 3);
        let path = url[host..].find('/').map_or(url.len(), |at| host + at);
        let (origin, path) = url.split_at(path);
        let base_path = path.rfind('/').map_or("", |at| &path[..at]);
        Self {
            origin: origin.to_owned(),
            path: path.to_owned(),
            base_path: format!("{base_path}/"),
        }
    }

    /// Whether a path lies beside the index, however it is read.
    fn holds(&self, path: &str) -> bool {
        let lower = path.to_ascii_lowercase();
        let tricks = ["%2e", "%2f", "%5c", "\\", "%25"];
        path.starts_with(&self.base_path)
            && !path.split('/').any(|part| part == ".." || part == ".")
            && !tricks.iter().any(|trick| lower.contains(trick))
    }
}

/// A connection that is counted until this is dropped.
struct ConnectionPermit {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl ConnectionPermit {
    fn take(shared: &Arc<Shared>, from: IpAddr) -> Option<Self> {
        let connections = shared.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        let all: usize = connections.values().sum();
        let own = connections.entry(from).or_default();
        if *own >= CONNECTIONS_PER_ADDRESS_MAX || all >= CONNECTIONS_MAX {
            return None;
        }
        *own += 1;
        let shared = shared.clone();
        Some(Self { shared, from })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let connections = self.shared.connections.lock();
        let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = connections.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                connections.remove(&self.from);
            }
        }
    }
}

async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                if let Some(permit) = ConnectionPermit::take(&shared, from.ip()) {
                    tokio::spawn(serve_connection(permit, socket));
                }
            }
            Err(error) => {
                warn!(%error, "a build's connection to the package index could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(permit: ConnectionPermit, socket: TcpStream) {
    let answer = service_fn(|request| {
        let shared = permit.shared.clone();
        async move { Ok::<_, std::convert::Infallible>(shared.answer(request).await) }
    });
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(socket), answer)
        .await;
    if let Err(error) = ended {
        debug!(%error, "a build's connection to the package index broke");
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.is_authorized(request.headers()) {
            let mut refusal = reply(StatusCode::UNAUTHORIZED, "for builds that run\n");
            let basic = HeaderValue::from_static("Basic realm=\"builds\"");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
            return refusal;
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return reply(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n");
        }
        if !self.index.holds(request.uri().path()) {
            let message = format!("what lies in {} is allowed\n", self.index.base_path);
            return reply(StatusCode::FORBIDDEN, &message);
        }
        self.forward(&request).await.unwrap_or_else(|error| {
            // Its own text may hold the URL, which has no credentials in it.
            warn!(%error, "the package index cannot be reached for a build");
            reply(
                StatusCode::BAD_GATEWAY,
                "the package index cannot be reached\n",
            )
        })
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|all| all.to_str().ok());
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        given.is_some_and(|given| tokens.contains(given))
    }

    async fn forward(&self, request: &Request<Incoming>) -> Result<Response<Body>, reqwest::Error> {
        let target = request.uri().path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let mut upstream_request = self
            .client
            .request(
                request.method().clone(),
                format!("{}{target}", self.index.origin),
            )
            .header(AUTHORIZATION, self.authorization.clone())
            // Links are rewritten.
            .header(ACCEPT_ENCODING, "identity");
        for name in REQUEST_HEADERS {
            if let Some(value) = request.headers().get(name) {
                upstream_request = upstream_request.header(name, value);
            }
        }
        let upstream_response = upstream_request.send().await?;
        let status = upstream_response.status();
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            warn!(%status, "the package index refuses the credentials of install_index");
            let message = "the package index refuses virga's credentials; tell its operator\n";
            return Ok(reply(StatusCode::BAD_GATEWAY, message));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        for name in RESPONSE_HEADERS {
            if let Some(value) = upstream_response.headers().get(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        if let Some(to) = upstream_response.headers().get(LOCATION)
            && let Ok(to) =
                HeaderValue::try_from(self.rewrite_links(to.to_str().unwrap_or_default()))
        {
            response.headers_mut().insert(LOCATION, to);
        }
        let is_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.to_str().unwrap_or_default();
            kind.starts_with("text/html") || kind.starts_with("application/vnd.pypi.simple")
        });
        let body = axum::http::Response::from(upstream_response).into_body();
        if !is_page {
            *response.body_mut() = Body::new(body);
            return Ok(response);
        }
        response.headers_mut().remove(CONTENT_LENGTH);
        match Limited::new(body, PAGE_MAX).collect().await {
            Ok(page) => {
                let page = page.to_bytes();
                let text = String::from_utf8_lossy(&page);
                *response.body_mut() = Body::from(self.rewrite_links(&text));
                Ok(response)
            }
            Err(error) => {
                warn!(%error, "a page of the package index cannot be read");
                let message = "a page of the package index is too large, or broke off\n";
                Ok(reply(StatusCode::BAD_GATEWAY, message))
            }
        }
    }

    /// A text in which what leads to the index leads here.
    fn rewrite_links(&self, text: &str) -> String {
        let here = format!("http://{}/", self.address);
        text.replace(&format!("{}/", self.index.origin), &here)
    }
}

fn reply(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(message.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_outside_the_index_base_path_are_refused() {
        let index = Index::of("https://host:8443/artifactory/api/pypi/simple");
        assert_eq!(index.origin, "https://host:8443");
        assert_eq!(index.path, "/artifactory/api/pypi/simple");
        for good in [
            "/artifactory/api/pypi/simple/",
            "/artifactory/api/pypi/simple/boto3/",
            "/artifactory/api/pypi/packages/b/boto3-1.0.tar.gz",
        ] {
            assert!(index.holds(good), "{good}");
        }
        for bad in [
            "/artifactory/api/security/keys",
            "/artifactory/api/pypi/../security/keys",
            "/artifactory/api/pypi/%2e%2e/security/keys",
            "/artifactory/api/pypi/simple/..%2f..%2fsecurity",
            "/artifactory/api/pypi/simple/%252e%252e/x",
            "/",
            "/artifactory/api/pypi",
        ] {
            assert!(!index.holds(bad), "{bad}");
        }
        assert!(Index::of("https://host").holds("/boto3/"));
    }
}
