//! A reverse proxy by which builds reach a package index that needs credentials of the operator.
//!
//! A build gets a URL with a token that is valid while it runs. Only GET and HEAD below the index' base path are
//! allowed, so that the credentials expose nothing else. They are sent to the index only: a redirect to another host is
//! returned to the build, which follows it without them.

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

/// Most connections of one address, and of all. A client without a token holds one no longer than the header timeout.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 16;
const CONNECTIONS_MAX: usize = 256;
/// Timeouts: for a request's head, for connecting to the index, and for silence of the index.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest index page in which links are rewritten, bytes.
const PAGE_MAX: usize = 32 << 20;
/// User name of builds.
const BUILD_USER: &str = "build";
/// Headers that are forwarded to the index, and back.
const REQUEST_HEADERS: &[HeaderName] = &[ACCEPT, RANGE];
const RESPONSE_HEADERS: &[HeaderName] = &[CONTENT_TYPE, CONTENT_LENGTH, ETAG, LAST_MODIFIED];

/// A package index that the operator configured.
#[derive(Clone, PartialEq, Eq)]
pub struct PackageIndex {
    /// The URL without credentials and without a trailing `/`.
    pub url: String,
    /// A user name and a password.
    pub credentials: Option<(String, String)>,
}

/// Omits the credentials.
impl std::fmt::Debug for PackageIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackageIndex")
            .field("url", &self.url)
            .field("credentials", &self.credentials.is_some())
            .finish()
    }
}

/// A handle. Clones share it.
#[derive(Clone)]
pub struct IndexProxy {
    shared: Arc<Shared>,
}

struct Shared {
    client: reqwest::Client,
    index: Index,
    authorization: HeaderValue,
    /// The address for builds.
    address: SocketAddr,
    /// The valid `Authorization` values.
    tokens: Mutex<HashSet<String>>,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// The location of an index.
#[derive(Debug)]
struct Index {
    /// Scheme, host and port.
    origin: String,
    /// Path of the index itself.
    path: String,
    /// Base path of the index, with a `/` at its end. Its files lie below it, too.
    base_path: String,
}

/// Access of a build to the proxy, revoked on drop.
pub struct IndexAccess {
    /// URL of the index for pip.
    pub url: String,
    token: String,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for IndexAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexAccess").finish_non_exhaustive()
    }
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
    /// Starts a proxy for an index with credentials, on a listener that builds reach.
    ///
    /// # Errors
    /// If the credentials or the TLS settings cannot be used.
    pub fn start(index: &PackageIndex, listener: TcpListener) -> io::Result<Self> {
        // The TLS client uses the process' default crypto provider. If one is installed already, this fails and that one
        // is used.
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

    /// Grants a build access.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn access(&self) -> io::Result<IndexAccess> {
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

    /// Returns whether a path lies below the base path under any decoding.
    fn holds(&self, path: &str) -> bool {
        let lower = path.to_ascii_lowercase();
        let tricks = ["%2e", "%2f", "%5c", "\\", "%25"];
        path.starts_with(&self.base_path)
            && !path.split('/').any(|part| part == ".." || part == ".")
            && !tricks.iter().any(|trick| lower.contains(trick))
    }
}

/// A counted connection, released on drop.
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
                warn!(%error, "failed to accept a build's connection to the package index proxy");
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
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(socket), answer)
        .await;
    if let Err(error) = ended {
        debug!(%error, "a build's connection to the package index proxy failed");
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if !self.is_authorized(request.headers()) {
            let mut refusal = reply(
                StatusCode::UNAUTHORIZED,
                "the token is missing or expired; it is valid while its build runs\n",
            );
            let basic = HeaderValue::from_static("Basic realm=\"builds\"");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, basic);
            return refusal;
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return reply(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are allowed\n");
        }
        if !self.index.holds(request.uri().path()) {
            let message = format!(
                "the path is not allowed; only paths below {} are\n",
                self.index.base_path
            );
            return reply(StatusCode::FORBIDDEN, &message);
        }
        self.forward(&request).await.unwrap_or_else(|error| {
            // The error may contain the URL, which has no credentials in it.
            warn!(%error, "failed to reach the package index for a build");
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
            // Pages must not be compressed, since links in them are rewritten.
            .header(ACCEPT_ENCODING, "identity");
        for name in REQUEST_HEADERS {
            if let Some(value) = request.headers().get(name) {
                upstream_request = upstream_request.header(name, value);
            }
        }
        let upstream_response = upstream_request.send().await?;
        let status = upstream_response.status();
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            warn!(%status, "the package index rejected the credentials of install_index");
            let message = "the package index rejected virga's credentials; ask virga's operator to check install_index\n";
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
                warn!(%error, "failed to read a page of the package index");
                let message = "a page of the package index is too large or incomplete\n";
                Ok(reply(StatusCode::BAD_GATEWAY, message))
            }
        }
    }

    /// Replaces links to the index by links to the proxy.
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
