//! Requests that switch to another protocol, such as WebSocket, and the bytes of both sides from then on.

use std::time::{Duration, Instant};

use axum::http::Version;
use axum::http::header::{CONNECTION, HeaderValue, UPGRADE};
use axum::http::request::Parts;
use engine::invoke::web::WebInvocation;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// Bytes copied at a time.
const BUFFER: usize = 16 << 10;

/// A request to switch to another protocol, e.g. WebSocket.
pub(super) struct Upgrade {
    /// The names of the protocols.
    pub(super) asked: HeaderValue,
    /// The connection, once it is free.
    client: OnUpgrade,
}

impl Upgrade {
    /// Extracts a request's upgrade; `None` if it asks for none or cannot have one.
    pub(super) fn of(parts: &mut Parts) -> Option<Self> {
        let asked = parts.headers.get(UPGRADE)?.clone();
        let connection = parts.headers.get_all(CONNECTION);
        let upgrades = connection.iter().any(|value| has_token(value, "upgrade"));
        (upgrades && parts.version == Version::HTTP_11).then_some(())?;
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Self { asked, client })
    }

    /// Returns whether a protocol is among those asked for.
    pub(super) fn is_for(&self, protocol: &HeaderValue) -> bool {
        protocol
            .to_str()
            .is_ok_and(|protocol| has_token(&self.asked, protocol.trim()))
    }

    /// Relays bytes between the client and the server, and ends the invocation.
    pub(super) async fn relay(self, server: OnUpgrade, silence: Duration, running: WebInvocation) {
        relay(self.client, server, silence, running).await;
    }
}

/// Returns whether a comma-separated header contains a token, ignoring case.
fn has_token(list: &HeaderValue, word: &str) -> bool {
    let mut words = list.to_str().unwrap_or_default().split(',');
    words.any(|one| one.trim().eq_ignore_ascii_case(word))
}

/// Copies bytes in both directions until one side ends, both are silent for too long, or the function times out.
async fn relay(
    client: OnUpgrade,
    server: OnUpgrade,
    silence: Duration,
    mut running: WebInvocation,
) {
    let deadline = running.deadline();
    let both = async { tokio::join!(client, server) };
    let (client, server) = match tokio::time::timeout_at(deadline.into(), both).await {
        Ok((Ok(client), Ok(server))) => (client, server),
        Ok(_) => return,
        Err(_) => return drop(running.time_out()),
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_server, to_server) = tokio::io::split(TokioIo::new(server));
    let (alive, mut activity) = watch::channel(());
    tokio::select! {
        () = carry(from_client, to_server, &alive) => running.succeed(),
        () = carry(from_server, to_client, &alive) => running.succeed(),
        () = silent(&mut activity, silence) => running.succeed(),
        () = until(deadline) => drop(running.time_out()),
    }
}

async fn until(deadline: Instant) {
    tokio::time::sleep_until(deadline.into()).await;
}

async fn silent(activity: &mut watch::Receiver<()>, silence: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(silence, activity.changed()).await {}
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    alive: &watch::Sender<()>,
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        alive.send_replace(());
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
