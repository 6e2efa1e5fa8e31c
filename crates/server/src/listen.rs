//! Listeners: they accept every connection at once, and let those in that [`Traffic`] has room for.

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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::tls::Tls;
use crate::traffic::{
    Connection, Counted, Inflow, Opening, Outflow, Peer, Traffic, client, inflow, opening,
};

/// Bytes of a request's head, and of what is read at a time.
const BUFFER: usize = 64 << 10;
/// Bytes that are read at a time of what a proxy says first.
const OPENING: usize = 512;
/// Bytes of a reply that the kernel holds and has not sent, so that what a slow reader does not take stays countable.
const UNSENT: u32 = 256 << 10;
/// Pause after a connection could not be accepted, as when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How HTTP is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    builder: http1::Builder,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut builder = http1::Builder::new();
        // How long a head takes is the sweep's to look at.
        builder.max_buf_size(BUFFER).header_read_timeout(None);
        Self { builder }
    }

    /// Writes names of headers as they are spelt.
    pub(crate) fn of_buckets(mut self) -> Self {
        self.builder.preserve_header_case(true);
        self
    }
}

/// A socket that listens, and TLS where that is spoken.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Tls>,
}

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve<A, F, B>(
    door: Door,
    http: Http,
    traffic: Traffic,
    answer: A,
    mut stopped: watch::Receiver<()>,
) where
    A: Fn(Request<Inflow>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    let Door { listener, tls } = door;
    // Accepted connections inherit it.
    if let Err(error) = SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT) {
        warn!(%error, "the kernel's buffers for replies are not bounded");
    }
    let mut connections = JoinSet::new();
    loop {
        let (socket, from) = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = stopped.changed() => break,
        };
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        let place = traffic.admit(from.ip());
        let speak = Speak {
            connection: place.connection().clone(),
            http: http.clone(),
            answer: answer.clone(),
            from: from.ip(),
            traffic: traffic.clone(),
            stopped: stopped.clone(),
        };
        let socket = Counted::new(socket, place);
        match &tls {
            None => connections.spawn(speak.plain(socket)),
            Some(tls) => connections.spawn(speak.secure(socket, tls.acceptor())),
        };
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    warn!(%error, "cannot send small answers at once");
                }
                return (socket, from);
            }
            Err(error) if is_peer_s(&error) => {}
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether somebody asks if the process lives.
fn is_health<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    *request.method() == Method::GET
        && (uri.path(), uri.query()) == ("/healthz", None)
        && !request.headers().contains_key(AUTHORIZATION)
}

/// What is answered to anything else over a spare connection.
fn full() -> Response<Full<Bytes>> {
    let why = "virga has as many connections as it may, of this address or in all; try again in a moment\n";
    let mut response = Response::new(Full::from(why));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let later = HeaderValue::from_static("1");
    response.headers_mut().insert(RETRY_AFTER, later);
    response
}

/// Whether the connection was broken before it was accepted.
fn is_peer_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// One connection, before it speaks HTTP.
struct Speak<A> {
    connection: Arc<Connection>,
    http: Http,
    answer: A,
    /// Whom the connection is for.
    from: IpAddr,
    traffic: Traffic,
    stopped: watch::Receiver<()>,
}

impl<A, F, B> Speak<A>
where
    A: Fn(Request<Inflow>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    async fn plain(mut self, socket: Counted) {
        if let Some(socket) = self.opened(socket).await {
            self.http(socket).await;
        }
    }

    /// Reads what a trusted proxy says of the connection before anything else.
    async fn opened(&mut self, mut socket: Counted) -> Option<Counted> {
        if !self.traffic.trusts(self.from) {
            return Some(socket);
        }
        let mut read = BytesMut::with_capacity(OPENING);
        loop {
            match opening(&read) {
                Opening::Partial => {}
                Opening::None => break,
                Opening::Malformed => {
                    debug!(from = %self.from, "a header of the PROXY protocol cannot be read");
                    return None;
                }
                Opening::Header(length, client) => {
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

    async fn secure(mut self, socket: Counted, acceptor: tokio_rustls::TlsAcceptor) {
        let Some(socket) = self.opened(socket).await else {
            return;
        };
        let from = self.from;
        let shaken = tokio::select! {
            shaken = acceptor.accept(socket) => shaken,
            () = self.connection.closed() => return,
        };
        match shaken {
            Ok(stream) => self.http(stream).await,
            Err(error) => debug!(%from, %error, "a handshake failed"),
        }
    }

    async fn http(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
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
            connection: connection.clone(),
        };
        if peer.through_proxy {
            connection.serves_many();
        }
        let service = service_fn(|request: Request<Incoming>| {
            let mut peer = peer.clone();
            if peer.through_proxy {
                peer.address = client(traffic.proxies(), from, request.headers());
            }
            let connection = peer.connection.clone();
            let (request, part) = inflow(request, &connection);
            let asks = !connection.is_spare() || is_health(&request);
            let answered = if asks {
                Ok(answer(request, peer))
            } else {
                connection.ignore_rest();
                Err(full())
            };
            async move {
                let mut response = match answered {
                    Ok(answered) => answered.await.map(Either::Left),
                    Err(full) => full.map(Either::Right),
                };
                if connection.is_spare() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    connection.upgrade();
                }
                Ok::<_, Infallible>(response.map(|body| Outflow::new(body, part)))
            }
        });
        let spoken = http
            .builder
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut spoken = std::pin::pin!(spoken);
        let mut stops = std::pin::pin!(stopped.changed());
        let mut closed = std::pin::pin!(connection.closed());
        let mut stopping = false;
        let ended = loop {
            tokio::select! {
                ended = spoken.as_mut() => break ended,
                _ = stops.as_mut(), if !stopping => {
                    spoken.as_mut().graceful_shutdown();
                    stopping = true;
                }
                () = closed.as_mut() => return debug!(%from, "a connection was closed"),
            }
        };
        if let Err(error) = ended {
            debug!(%from, %error, "a connection broke off");
        }
    }
}
