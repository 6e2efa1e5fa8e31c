//! Forwards requests to a web function's server, over connections into its instance's network.
//!
//! Virga makes a socket inside the instance's network namespace, which only virga holds. Connections are reused while
//! the instance runs. They are closed when it is frozen, since a server may time out an idle connection meanwhile.
//!
//! A server may close an idle connection at any moment, even while a request is on its way. So only a repeatable request
//! is sent over a reused connection. It is retried once over a new connection if the reused one ends before any byte of
//! a reply.

mod body;
mod payload;
mod socket;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

pub use self::payload::Payload;
use self::socket::{ConnectionState, ServerSocket};
use crate::process::Process;

pub use self::body::{BoxError, Outgoing};

/// The port of a web function's server.
pub(crate) const PORT: u16 = 9000;
/// Most idle connections of an instance.
const IDLE_MAX: usize = 100;
/// Timeout for connecting. The server may be busy with other requests.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take from the end of a reply until it is ready for the next request. Only a connection
/// whose request is still being sent takes longer.
const READY_TIMEOUT: Duration = Duration::from_millis(5);

/// Makes the head of a forwarded request. Called for each attempt.
pub type Head<'a> = dyn Fn() -> Request<()> + Send + Sync + 'a;

/// The connections of one instance.
#[derive(Debug)]
pub(crate) struct Connections {
    process: Arc<Process>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that takes one request after another.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Outgoing>,
    state: Arc<ConnectionState>,
    /// Closed once the connection has ended.
    ended: oneshot::Receiver<()>,
}

/// Why a connection gave no reply.
enum SendError {
    /// Nothing of the request was sent. Has the request, unless it is lost.
    Unsent(Option<Box<Request<Outgoing>>>),
    /// The connection ended before a reply.
    Broken(hyper::Error),
}

impl Connection {
    /// Sends a request, and waits for the reply's head.
    async fn try_send(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, SendError> {
        let answered = tokio::select! {
            biased;
            answered = self.sender.try_send_request(request) => answered,
            // hyper never answers a request that was queued at the very moment at which the connection ended: a message that
            // enters tokio's channel while its receiver is dropped stays there.
            _ = &mut self.ended => return Err(SendError::Unsent(None)),
        };
        answered.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Some(Box::new(request))),
            None => SendError::Broken(error.into_error()),
        })
    }
}

/// A request without a reply.
#[derive(Debug)]
pub(crate) struct NoReply {
    pub(crate) cause: NoReplyCause,
    /// Whether the server may have begun to handle the request, or the request cannot be sent again.
    pub(crate) started: bool,
}

/// Why a request got no reply.
#[derive(Debug)]
pub(crate) enum NoReplyCause {
    /// Nothing listens, or the server did not accept the connection.
    NotConnected(std::io::Error),
    /// The connection ended before a reply.
    Broken(hyper::Error),
    /// The connection ended before the request was sent.
    Closed,
}

impl Connections {
    pub(crate) fn new(process: Arc<Process>) -> Arc<Self> {
        Arc::new(Self {
            process,
            idle: Mutex::default(),
        })
    }

    /// Sends a request over an idle connection or a new one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        head: &Head<'_>,
        body: &mut Payload,
    ) -> Result<Response<StreamedReply>, NoReply> {
        // A server might handle a request as soon as it has read the head.
        let may_have_read = |connection: &Connection, body: &Payload| {
            !(body.is_empty() && connection.state.was_reset())
        };
        let mut started = false;
        let mut unsent: Option<Box<Request<Outgoing>>> = None;
        while let Some(mut connection) = self.take_idle(body.is_repeatable()).await {
            connection.state.begin();
            let request = unsent.take().map(|request| *request);
            let request = request.unwrap_or_else(|| head().map(|()| body.send()));
            match connection.try_send(request).await {
                Ok(reply) => return Ok(StreamedReply::reply(reply, connection, self)),
                // The server had closed the connection.
                Err(SendError::Unsent(request)) => unsent = request,
                Err(SendError::Broken(error))
                    if connection.state.has_replied() || !body.is_repeatable() =>
                {
                    return Err(NoReply {
                        cause: NoReplyCause::Broken(error),
                        started: true,
                    });
                }
                Err(SendError::Broken(_)) => {
                    started = may_have_read(&connection, body);
                    break;
                }
            }
        }
        let mut connection = self.connect().await.map_err(|cause| NoReply {
            cause,
            started: started || !body.is_whole(),
        })?;
        let request = unsent.map(|request| *request);
        let request = request.unwrap_or_else(|| head().map(|()| body.send()));
        match connection.try_send(request).await {
            Ok(reply) => Ok(StreamedReply::reply(reply, connection, self)),
            Err(SendError::Unsent(_)) => Err(NoReply {
                cause: NoReplyCause::Closed,
                started: started || !body.is_repeatable(),
            }),
            Err(SendError::Broken(error)) => Err(NoReply {
                cause: NoReplyCause::Broken(error),
                started: started || may_have_read(&connection, body),
            }),
        }
    }

    /// Closes idle connections.
    pub(crate) fn close_idle(&self) {
        self.idle().clear();
    }

    /// Takes an idle connection if there is one and the request is repeatable.
    async fn take_idle(&self, repeatable: bool) -> Option<Connection> {
        if !repeatable {
            // A server that serves one connection at a time accepts the new one only after these have ended.
            self.close_idle();
            return None;
        }
        loop {
            let (mut connection, ready) = self.take()?;
            if ready {
                return Some(connection);
            }
            match tokio::time::timeout(READY_TIMEOUT, connection.sender.ready()).await {
                Ok(Ok(())) => return Some(connection),
                Ok(Err(_)) => {}
                Err(_) => {
                    self.keep_idle(connection);
                    return None;
                }
            }
        }
    }

    /// Takes an idle connection, and returns whether it is ready for a request.
    fn take(&self) -> Option<(Connection, bool)> {
        let mut idle = self.idle();
        idle.retain(|connection| !connection.sender.is_closed());
        match idle
            .iter()
            .rposition(|connection| connection.sender.is_ready())
        {
            Some(ready) => Some((idle.swap_remove(ready), true)),
            None => idle.pop().map(|connection| (connection, false)),
        }
    }

    fn keep_idle(&self, connection: Connection) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection.
    async fn connect(&self) -> Result<Connection, NoReplyCause> {
        let stream = self.stream().await.map_err(NoReplyCause::NotConnected)?;
        let state = Arc::new(ConnectionState::default());
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(ServerSocket::new(stream, state.clone())))
            .await;
        let (sender, connection) = handshake.map_err(NoReplyCause::Broken)?;
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            // The caller that waits for the reply gets the error.
            let _ = connection.with_upgrades().await;
            drop(end);
        });
        Ok(Connection {
            sender,
            state,
            ended,
        })
    }

    async fn stream(&self) -> std::io::Result<TcpStream> {
        let process = self.process.clone();
        let made = tokio::task::spawn_blocking(move || process.socket_inside()).await;
        let socket = made
            .map_err(std::io::Error::other)?
            .map_err(std::io::Error::other)?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        socket.set_nodelay(true)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(address)).await?
    }
}

/// The body of a reply. At its end, its connection becomes idle again.
#[derive(Debug)]
pub struct StreamedReply {
    body: Incoming,
    connection: Option<(Connection, Arc<Connections>)>,
}

impl StreamedReply {
    fn reply(
        reply: Response<Incoming>,
        connection: Connection,
        connections: &Arc<Connections>,
    ) -> Response<Self> {
        reply.map(|body| {
            let mut streamed = Self {
                body,
                connection: Some((connection, connections.clone())),
            };
            if streamed.body.is_end_stream() {
                streamed.return_connection();
            }
            streamed
        })
    }

    fn return_connection(&mut self) {
        if let Some((connection, connections)) = self.connection.take() {
            connections.keep_idle(connection);
        }
    }
}

impl Drop for StreamedReply {
    fn drop(&mut self) {
        // A reader that knows the length may drop the body without polling its end.
        if self.body.is_end_stream() {
            self.return_connection();
        }
    }
}

impl Body for StreamedReply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.return_connection(),
            Poll::Ready(Some(Err(_))) => self.connection = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
