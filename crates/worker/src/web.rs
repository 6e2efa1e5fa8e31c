//! Requests to a web function's server, over connections into its instance's network.
//!
//! Virga connects from outside: a socket is made inside the instance's network namespace and is virga's alone. Connections
//! are kept while the instance runs, and closed when it is frozen, since a server may close an idle one meanwhile.

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

use crate::process::Process;

/// Where a web function's server listens.
pub(crate) const PORT: u16 = 9000;
/// Connections of an instance that are kept for a next request.
const KEPT: usize = 100;
/// How long a connection may take: the server may be busy with others.
const CONNECT: Duration = Duration::from_secs(5);

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of a request that is passed on.
pub type Outgoing = UnsyncBoxBody<Bytes, BoxError>;

/// The connections of one instance.
#[derive(Debug)]
pub(crate) struct Connections {
    process: Arc<Process>,
    idle: Mutex<Vec<SendRequest<Outgoing>>>,
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
        mut request: Request<Outgoing>,
    ) -> Result<Response<Streamed>, NoReply> {
        while let Some(mut sender) = self.kept() {
            match sender.try_send_request(request).await {
                Ok(reply) => return Ok(Streamed::reply(reply, sender, self)),
                Err(mut error) => match error.take_message() {
                    // The server had closed it; nothing of the request was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(NoReply::Broken(error.into_error())),
                },
            }
        }
        let stream = self.connect().await.map_err(NoReply::NotConnected)?;
        let shaken = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = shaken.map_err(NoReply::Broken)?;
        tokio::spawn(async move {
            // Whoever waits for a reply hears of its end.
            let _ = connection.with_upgrades().await;
        });
        let reply = sender.send_request(request).await;
        reply
            .map(|reply| Streamed::reply(reply, sender, self))
            .map_err(NoReply::Broken)
    }

    /// Closes the connections that nothing runs on.
    pub(crate) fn close_idle(&self) {
        self.idle().clear();
    }

    fn kept(&self) -> Option<SendRequest<Outgoing>> {
        let mut idle = self.idle();
        idle.retain(|sender| !sender.is_closed());
        let ready = idle.iter().rposition(SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn keep(&self, sender: SendRequest<Outgoing>) {
        let mut idle = self.idle();
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push(sender);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Outgoing>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let process = self.process.clone();
        let made = tokio::task::spawn_blocking(move || process.socket_inside()).await;
        let socket = made
            .map_err(std::io::Error::other)?
            .map_err(std::io::Error::other)?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        socket.set_nodelay(true)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        tokio::time::timeout(CONNECT, socket.connect(address)).await?
    }
}

/// The body of a reply. At its end its connection is kept for the next request.
#[derive(Debug)]
pub struct Streamed {
    body: Incoming,
    sender: Option<(SendRequest<Outgoing>, Arc<Connections>)>,
}

impl Streamed {
    fn reply(
        reply: Response<Incoming>,
        sender: SendRequest<Outgoing>,
        home: &Arc<Connections>,
    ) -> Response<Self> {
        reply.map(|body| {
            let mut streamed = Self {
                body,
                sender: Some((sender, home.clone())),
            };
            if streamed.body.is_end_stream() {
                streamed.give_back();
            }
            streamed
        })
    }

    fn give_back(&mut self) {
        if let Some((sender, home)) = self.sender.take() {
            home.keep(sender);
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Whoever has all of a body does not ask for its end.
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Err(_))) => self.sender = None,
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
