//! Listeners: they accept every connection at once, and let those in that [`Traffic`] has room for.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::tls::Tls;
use crate::traffic::{Connection, Counted, Inflow, Outflow, Peer, Traffic, inflow};

/// Bytes of a request's head, and of what is read at a time.
const BUFFER: usize = 128 << 10;
/// Pause after a connection could not be accepted, as when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How HTTP is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    builder: http1::Builder,
    /// Whether the rest of a request's body is drained that nobody reads.
    drains: bool,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut builder = http1::Builder::new();
        // How long a head takes is the sweep's to look at.
        builder.max_buf_size(BUFFER).header_read_timeout(None);
        Self {
            builder,
            drains: true,
        }
    }

    /// Writes names of headers as they are spelt, and leaves the rest of bodies to whoever serves the requests.
    pub(crate) fn of_buckets(mut self) -> Self {
        self.builder.preserve_header_case(true);
        self.drains = false;
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
    let mut connections = JoinSet::new();
    loop {
        let (socket, from) = tokio::select! {
            accepted = accept(&listener) => accepted,
            _ = stopped.changed() => break,
        };
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        let Some(place) = traffic.admit(from.ip(), false) else {
            continue;
        };
        let speak = Speak {
            connection: place.connection().clone(),
            http: http.clone(),
            answer: answer.clone(),
            from,
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
    from: SocketAddr,
    stopped: watch::Receiver<()>,
}

impl<A, F, B> Speak<A>
where
    A: Fn(Request<Inflow>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send + 'static,
{
    async fn plain(self, socket: Counted) {
        self.http(socket).await;
    }

    async fn secure(self, socket: Counted, acceptor: tokio_rustls::TlsAcceptor) {
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
            mut stopped,
        } = self;
        connection.ready();
        let peer = Peer {
            address: from.ip(),
            connection: connection.clone(),
        };
        let service = service_fn(|request: Request<Incoming>| {
            let (request, part) = inflow(request, &peer.connection, http.drains);
            let (answered, connection) = (answer(request, peer.clone()), peer.connection.clone());
            async move {
                let response = answered.await;
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
