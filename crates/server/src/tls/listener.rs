//! Connections over TLS. Handshakes go on beside each other, so that a slow one keeps nobody waiting.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

/// Handshakes at a time; further connections wait in the kernel's queue.
const HANDSHAKES: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// A listener whose connections are ready to be read.
#[derive(Debug)]
pub(crate) struct TlsListener {
    address: io::Result<SocketAddr>,
    ready: mpsc::Receiver<Accepted>,
    /// What ends with it.
    tasks: [JoinHandle<()>; 2],
}

impl TlsListener {
    /// Starts to accept. The other task keeps what the acceptor needs up to date.
    pub(super) fn start(
        listener: TcpListener,
        acceptor: TlsAcceptor,
        keeper: JoinHandle<()>,
    ) -> Self {
        let (sender, ready) = mpsc::channel(HANDSHAKES);
        let address = listener.local_addr();
        let accepting = tokio::spawn(accept(listener, acceptor, sender));
        Self {
            address,
            ready,
            tasks: [accepting, keeper],
        }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Accepted {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(e) => Err(e.kind().into()),
        }
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<Accepted>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // As when there are no more descriptors, which passes.
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = stream.set_nodelay(true) {
                warn!(%error, "cannot send small answers at once");
            }
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(ready.send((stream, from)).await),
                Ok(Err(error)) => debug!(%from, %error, "a handshake failed"),
                Err(_) => debug!(%from, "a handshake took too long"),
            }
        });
    }
}
