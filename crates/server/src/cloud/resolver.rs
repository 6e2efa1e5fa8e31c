//! The name server of functions: it answers for the cloud's names, and asks the host's resolvers for all others.
//!
//! Answers of the host's resolvers are passed on as they are. They are asked from virga's side, one socket a question, so that an
//! answer is believed only at the port and with the id that were drawn for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::Query;
use sandbox::network::{NAMES_PORT, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tracing::debug;

use super::answer::{HEADER, Places, Verdict, decide, failure, question};
use super::names::CloudNames;
use super::turns::Turns;

/// Longest question, bytes. Names have 255, and what clients add is short.
const QUESTION: usize = 1024;
/// Longest answer in a datagram, bytes; the rest of a longer one is asked for over TCP.
const DATAGRAM: usize = 4096;
/// The bit of a header's third byte that says so.
const TRUNCATED: u8 = 2;
/// How long a resolver of the host's may take, and a connection may be silent.
const LONGEST: Duration = Duration::from_secs(10);
/// Pause after a socket failed, as when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The name server. Clones share its counters.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: CloudNames,
    places: Places,
    turns: Turns,
}

impl Resolver {
    pub(super) fn new(names: CloudNames, places: Places) -> Self {
        Self {
            shared: Arc::new(Shared {
                names,
                places,
                turns: Turns::default(),
            }),
        }
    }

    /// Serves at an address inside, and asks `upstream` for what it does not know itself.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn serve(
        &self,
        network: &Network,
        address: Ipv4Addr,
        upstream: Option<Ipv4Addr>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), super::CloudError> {
        let upstream = upstream.map(|address| SocketAddr::from((address, NAMES_PORT)));
        let socket = network.receive_at(address, NAMES_PORT)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        tasks.spawn(self.clone().datagrams(socket, upstream));
        let listener = network.listen_at(address, NAMES_PORT)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        tasks.spawn(self.clone().connections(listener, upstream));
        Ok(())
    }

    fn decide(&self, message: &[u8], upstream: Option<SocketAddr>) -> Verdict {
        let Shared { names, places, .. } = &*self.shared;
        decide(message, names, *places, upstream.is_some())
    }

    async fn datagrams(self, socket: Arc<UdpSocket>, upstream: Option<SocketAddr>) {
        // One byte more, so that what is too long shows.
        let mut buffer = [0; QUESTION + 1];
        // Those that are under way end with this.
        let mut asking = JoinSet::new();
        loop {
            while asking.try_join_next().is_some() {}
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "a question for a name could not be received");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let message = &buffer[..length];
            if length > QUESTION {
                continue;
            }
            match (self.decide(message, upstream), upstream) {
                (Verdict::Answer(reply), _) => give(&socket, &reply, from).await,
                (Verdict::Ask(query), Some(upstream)) => {
                    let Some(turn) = self.shared.turns.take(from.ip()) else {
                        continue;
                    };
                    let (message, socket) = (message.to_vec(), socket.clone());
                    asking.spawn(async move {
                        let asked = within(ask(&message, &query, upstream)).await;
                        // A client that learns of a failure asks the next name server at once.
                        if let Some(reply) = asked.or_else(|| failure(&message)) {
                            give(&socket, &reply, from).await;
                        }
                        drop(turn);
                    });
                }
                _ => {}
            }
        }
    }

    async fn connections(self, listener: TcpListener, upstream: Option<SocketAddr>) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "a connection to the name server could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Some(turn) = self.shared.turns.take(from.ip()) {
                let resolver = self.clone();
                connections.spawn(async move {
                    resolver.connection(stream, from.ip(), upstream).await;
                    drop(turn);
                });
            }
        }
    }

    /// Answers one question after another.
    async fn connection(&self, mut stream: TcpStream, from: IpAddr, upstream: Option<SocketAddr>) {
        while let Some(message) = within(read(&mut stream, QUESTION)).await {
            let reply = match (self.decide(&message, upstream), upstream) {
                (Verdict::Answer(reply), _) => Some(reply),
                (Verdict::Ask(_), Some(upstream)) => within(ask_long(&message, upstream))
                    .await
                    .or_else(|| failure(&message)),
                _ => None,
            };
            let Some(reply) = reply else { return };
            if within(write(&mut stream, &reply)).await.is_none() {
                debug!(%from, "an answer about a name was not taken");
                return;
            }
        }
    }
}

/// Waits for something within the longest time; `None` where it fails or takes longer.
async fn within<T>(done: impl Future<Output = io::Result<T>>) -> Option<T> {
    match tokio::time::timeout(LONGEST, done).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            debug!(%error, "a question for a name failed");
            None
        }
        Err(_) => None,
    }
}

async fn give(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        debug!(%to, %error, "an answer about a name could not be sent");
    }
}

/// Asks a resolver by a datagram.
async fn ask(message: &[u8], query: &Query, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(upstream).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut asked = message.to_vec();
    let own: Vec<u8> = asked.drain(..2).collect();
    asked.splice(..0, id);
    socket.send(&asked).await?;
    let mut reply = vec![0; DATAGRAM];
    loop {
        let length = socket.recv(&mut reply).await?;
        let about = question(&reply[..length]);
        let expected = |read: &Query| read == query;
        if length >= HEADER && reply[..2] == id && about.is_some_and(|(_, read)| expected(&read)) {
            reply.truncate(length);
            if length == DATAGRAM {
                reply[2] |= TRUNCATED;
            }
            reply[..2].copy_from_slice(&own);
            return Ok(reply);
        }
    }
}

/// Asks a resolver over a connection.
async fn ask_long(message: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write(&mut stream, message).await?;
    read(&mut stream, usize::from(u16::MAX)).await
}

/// Reads a message with its length before it.
async fn read(stream: &mut TcpStream, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::Error::other("a message is too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let whole = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&whole).await
}
