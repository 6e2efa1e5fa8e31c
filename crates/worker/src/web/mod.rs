//! Requests to a web function's server, over connections into its instance's network.
//!
//! Virga connects from outside: a socket is made inside the instance's network namespace and is virga's alone. Connections
//! are kept while the instance runs, and closed when it is frozen, since a server may close an idle one meanwhile.
//!
//! A server may close a kept connection at any moment, also just when a request is on its way. That is no fault of the
//! server's. So only a request that can be sent again is sent over a kept connection, and it is sent once more, over a new
//! one, where the kept one ends before any byte of a reply.

mod payload;
mod socket;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use self::payload::Payload;
use self::socket::{ConnectionState, ServerSocket};
use crate::process::Process;

/// Where a web function's server listens.
pub(crate) const PORT: u16 = 9000;
/// Connections of an instance that are kept for a next request.
const IDLE_MAX: usize = 100;
/// How long a connection may take: the server may be busy with others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may take from the end of a reply until it is ready for the next request. Only one whose request is
/// still on its way takes longer.
const READY_TIMEOUT: Duration = Duration::from_millis(5);

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request that is passed on.
pub type Outgoing = UnsyncBoxBody<Bytes, BoxError>;
/// Makes the head of a request that is passed on, each time that it is sent.
pub type Head<'a> = dyn Fn() -> Request<()> + Send + Sync + 'a;

/// The connections of one instance.
#[derive(Debug)]
pub(crate) struct Connections {
    process: Arc<Process>,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that takes requests one after another.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Outgoing>,
    state: Arc<ConnectionState>,
}

/// Why a request got no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// Nothing listens, or the server did not take the connection.
    NotConnected(std::io::Error),
    /// The connection ended before there was one.
    Broken(hyper::Error),
}

impl Connections {
    pub(crate) fn new(process: Arc<Process>) -> Arc<Self> {
        Arc::new(Self {
            process,
            idle: Mutex::default(),
        })
    }

    /// Sends a request, over a connection that is there or a new one.
    pub(crate) async fn send(
        self: &Arc<Self>,
        head: &Head<'_>,
        body: Outgoing,
    ) -> Result<Response<StreamedReply>, NoReply> {
        let mut body = Payload::new(body);
        let mut request = head().map(|()| body.send());
        while let Some(mut connection) = self.take_idle(body.is_repeatable()).await {
            connection.state.begin();
            match connection.sender.try_send_request(request).await {
                Ok(reply) => return Ok(StreamedReply::reply(reply, connection, self)),
                Err(mut error) => match error.take_message() {
                    // The server had closed it; nothing of the request was sent.
                    Some(unsent) => request = unsent,
                    None if connection.state.has_replied() || !body.is_repeatable() => {
                        return Err(NoReply::Broken(error.into_error()));
                    }
                    None => {
                        request = head().map(|()| body.send());
                        break;
                    }
                },
            }
        }
        let mut connection = self.connect().await?;
        let reply = connection.sender.send_request(request).await;
        reply
            .map(|reply| StreamedReply::reply(reply, connection, self))
            .map_err(NoReply::Broken)
    }

    /// Closes the connections that nothing runs on.
    pub(crate) fn close_idle(&self) {
        self.idle().clear();
    }

    /// Takes a kept connection for a request, if there is one and the request may have to be sent again.
    async fn take_idle(&self, repeatable: bool) -> Option<Connection> {
        if !repeatable {
            // A server that serves one connection at a time takes the new one when these have ended.
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

    /// Takes a kept connection, and says whether it is ready for a request.
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

    /// Makes a connection.
    async fn connect(&self) -> Result<Connection, NoReply> {
        let stream = self.stream().await.map_err(NoReply::NotConnected)?;
        let state = Arc::new(ConnectionState::default());
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(ServerSocket::new(stream, state.clone())))
            .await;
        let (sender, connection) = handshake.map_err(NoReply::Broken)?;
        tokio::spawn(async move {
            // Whoever waits for a reply hears of its end.
            let _ = connection.with_upgrades().await;
        });
        Ok(Connection { sender, state })
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

/// The body of a reply. At its end its connection is kept for the next request.
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
        // Whoever has all of a body does not ask for its end.
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
