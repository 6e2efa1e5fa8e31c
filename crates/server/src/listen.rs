//! Connections: bounded in number, and none may send its requests as slowly as it likes.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::serve::Listener;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::debug;

/// Connections of one listener; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 8192;
/// Bytes of a request's head, and of what is read at a time.
const BUFFER: usize = 256 << 10;

/// How HTTP is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    builder: http1::Builder,
    /// From one look at how long a head takes to the next.
    look: Duration,
}

impl Http {
    /// A request's head may take so long, or a fifth longer, and so may a connection be idle.
    pub(crate) fn new(head_timeout: Duration) -> Self {
        let mut builder = http1::Builder::new();
        builder
            .timer(Glances)
            .header_read_timeout(head_timeout)
            .max_buf_size(BUFFER);
        let look = head_timeout / 5;
        Self { builder, look }
    }

    /// Names of headers are written as they are spelt.
    pub(crate) fn spelt(mut self) -> Self {
        self.builder.preserve_header_case(true);
        self
    }
}

/// Serves until the other end of `stopped` goes, and then until the requests under way are answered.
pub(crate) async fn serve<L, A, F, B>(
    mut listener: L,
    http: Http,
    answer: A,
    mut stopped: watch::Receiver<()>,
) where
    L: Listener<Addr = SocketAddr>,
    A: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (io, from)) = tokio::select! {
            accepted = accept => accepted,
            _ = stopped.changed() => break,
        };
        // Those that have ended are forgotten.
        while connections.try_join_next().is_some() {}
        let (http, answer, mut stopped) = (http.clone(), answer.clone(), stopped.clone());
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let answered = answer(request, from);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let connection = http
                .builder
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let mut stops = std::pin::pin!(stopped.changed());
            let mut stopping = false;
            let mut looks = tokio::time::interval(http.look);
            let ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    _ = stops.as_mut(), if !stopping => {
                        connection.as_mut().graceful_shutdown();
                        stopping = true;
                    }
                    // The connection is looked at, too, and with it its `Until`.
                    _ = looks.tick() => {}
                }
            };
            if let Err(error) = ended {
                debug!(%from, %error, "a connection broke off");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// A timer for what is looked at now and then anyway. The runtime's own would be set and unset for each request.
#[derive(Clone, Copy, Debug)]
struct Glances;

impl Timer for Glances {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until(deadline))
    }
}

/// Over when it is looked at after a time. Wakes nobody.
struct Until(Instant);

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() < self.0 {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

impl Sleep for Until {}
