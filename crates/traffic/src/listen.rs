//! Listeners. They accept every connection at once; [`Traffic`] admits it or not.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{Either, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tls::Tls;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::{
    Connection, CountedStream, Peer, ProxyHeader, ReplyBody, RequestBody, Traffic, client,
    read_proxy_header, wrap_request,
};

/// Largest head of a request, and the size of the read buffer, in bytes.
const BUFFER: usize = 64 << 10;
/// Bytes read at a time for a PROXY header.
const PROXY_HEADER_CHUNK: usize = 512;
/// Unsent bytes in the kernel's send buffer. Whatever a slow reader leaves beyond them stays in virga, where it is
/// counted.
const UNSENT_MAX: u32 = 256 << 10;
/// Pause after a failed accept, e.g. without free descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The HTTP settings of a listener.
#[derive(Clone, Debug)]
pub struct Http {
    builder: http1::Builder,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// Creates the settings of the API's listeners.
    pub fn new() -> Self {
        let mut builder = http1::Builder::new();
        // The sweep limits the time for a head.
        builder.max_buf_size(BUFFER).header_read_timeout(None);
        Self { builder }
    }

    /// Preserves the case of header names.
    pub fn preserving_header_case(mut self) -> Self {
        self.builder.preserve_header_case(true);
        self
    }
}

/// A listening socket, with TLS or without.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub listener: TcpListener,
    /// The acceptor; `None` = no TLS.
    pub tls: Option<Tls>,
}

impl Listener {
    /// Returns a listener without TLS.
    pub fn plain(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
        }
    }
}

/// Serves connections until the sender of `stopped` is dropped, and then until the requests under way are answered.
pub async fn serve<A, F, B>(
    listener: Listener,
    http: Http,
    traffic: Traffic,
    answer: A,
    mut stopped: watch::Receiver<()>,
) where
    A: Fn(Request<RequestBody>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    let Listener { listener, tls } = listener;
    // Accepted sockets inherit it.
    if let Err(error) = SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_MAX) {
        warn!(%error, "failed to set TCP_NOTSENT_LOWAT; the kernel's send buffers are not bounded");
    }
    let mut connections = JoinSet::new();
    loop {
        let (socket, from) = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = stopped.changed() => break,
        };
        // Reap the tasks that have ended.
        while connections.try_join_next().is_some() {}
        let guard = traffic.admit(from.ip());
        let task = ConnectionTask {
            connection: guard.connection().clone(),
            http: http.clone(),
            answer: answer.clone(),
            from: from.ip(),
            traffic: traffic.clone(),
            stopped: stopped.clone(),
        };
        let socket = CountedStream::new(socket, guard);
        match &tls {
            None => connections.spawn(task.plain(socket)),
            Some(tls) => connections.spawn(task.secure(socket, tls.acceptor())),
        };
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    warn!(%error, "failed to set TCP_NODELAY; small replies may be delayed");
                }
                return (socket, from);
            }
            Err(error) if is_aborted_by_peer(&error) => {}
            Err(error) => {
                warn!(%error, "failed to accept a connection; retrying");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Returns whether a request is a health check.
fn is_health<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    *request.method() == Method::GET
        && (uri.path(), uri.query()) == ("/healthz", None)
        && !request.headers().contains_key(AUTHORIZATION)
}

/// Returns the reply to any other request on a spare connection.
fn over_limit() -> Response<Full<Bytes>> {
    let why = "too many connections, of this address or in total; try again in a moment\n";
    let mut response = Response::new(Full::from(why));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let later = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, later);
    response
}

/// Returns whether the peer broke the connection before it was accepted.
fn is_aborted_by_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// The task of one connection, before it speaks HTTP.
struct ConnectionTask<A> {
    connection: Arc<Connection>,
    http: Http,
    answer: A,
    /// The address of the client.
    from: IpAddr,
    traffic: Traffic,
    stopped: watch::Receiver<()>,
}

impl<A, F, B> ConnectionTask<A>
where
    A: Fn(Request<RequestBody>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    async fn plain(mut self, socket: CountedStream) {
        if let Some(socket) = self.skip_proxy_header(socket).await {
            self.http(socket, false).await;
        }
    }

    /// Reads the PROXY header of a trusted proxy.
    async fn skip_proxy_header(&mut self, mut socket: CountedStream) -> Option<CountedStream> {
        if !self.traffic.trusts(self.from) {
            return Some(socket);
        }
        let mut read = BytesMut::with_capacity(PROXY_HEADER_CHUNK);
        loop {
            match read_proxy_header(&read) {
                ProxyHeader::Partial => {}
                ProxyHeader::None => break,
                ProxyHeader::Malformed => {
                    debug!(from = %self.from, "malformed PROXY protocol header");
                    return None;
                }
                ProxyHeader::Header(length, client) => {
                    read.advance(length);
                    if let Some(client) = client {
                        self.from = client;
                        if !self.traffic.move_to(&self.connection, client) {
                            return None;
                        }
                    }
                    break;
                }
            }
            let more = tokio::select! {
                more = socket.read_buf(&mut read) => more,
                () = self.connection.closed() => return None,
            };
            if !matches!(more, Ok(1..)) {
                return None;
            }
        }
        socket.unread(read.freeze());
        Some(socket)
    }

    async fn secure(mut self, socket: CountedStream, acceptor: tokio_rustls::TlsAcceptor) {
        let Some(socket) = self.skip_proxy_header(socket).await else {
            return;
        };
        let from = self.from;
        let handshake = tokio::select! {
            handshake = acceptor.accept(socket) => handshake,
            () = self.connection.closed() => return,
        };
        match handshake {
            Ok(stream) => self.http(stream, true).await,
            Err(error) => debug!(%from, %error, "TLS handshake failed"),
        }
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, tls: bool) {
        let Self {
            connection,
            http,
            answer,
            from,
            traffic,
            mut stopped,
        } = self;
        connection.ready();
        let peer = Peer {
            address: from,
            hop: from,
            through_proxy: traffic.trusts(from),
            tls,
            connection: connection.clone(),
        };
        if peer.through_proxy {
            connection.mark_shared_by_clients();
        }
        let service = service_fn(|request: Request<Incoming>| {
            let mut peer = peer.clone();
            if peer.through_proxy {
                peer.address = client(traffic.proxies(), from, request.headers());
            }
            let connection = peer.connection.clone();
            let (request, part) = wrap_request(request, &connection);
            let asks = !connection.is_spare() || is_health(&request);
            let answered = if asks {
                Ok(answer(request, peer))
            } else {
                connection.discard_rest();
                Err(over_limit())
            };
            async move {
                let mut response = match answered {
                    Ok(answered) => answered.await.map(Either::Left),
                    Err(over_limit) => over_limit.map(Either::Right),
                };
                if connection.is_spare() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    connection.upgrade();
                }
                Ok::<_, Infallible>(response.map(|body| ReplyBody::new(body, part)))
            }
        });
        let serving = http
            .builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let mut stops = std::pin::pin!(stopped.changed());
        let mut closed = std::pin::pin!(connection.closed());
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                ended = serving.as_mut() => break ended,
                _ = stops.as_mut(), if !stopping => {
                    serving.as_mut().graceful_shutdown();
                    stopping = true;
                }
                () = closed.as_mut() => return debug!(%from, "a connection was closed"),
            }
        };
        if let Err(error) = ended {
            debug!(%from, %error, "connection failed");
        }
    }
}
