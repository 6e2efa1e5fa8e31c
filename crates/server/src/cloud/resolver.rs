//! The name server of functions. It answers for the cloud's names and forwards other queries to the host's resolvers.
//!
//! Answers of the host's resolvers are returned unchanged. Each query is forwarded from a socket of its own, with a
//! random id. So a forged answer has to match the port and the id.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::Query;
use sandbox::network::{InstanceLinks, NAMES_PORT, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tracing::debug;

use super::answer::{Decision, HEADER, ServiceAddresses, decide, failure, question};
use super::error::CloudError;
use super::names::CloudNames;
use super::query_limiter::QueryLimiter;

/// Longest query, bytes. Names have at most 255, and other parts of a query are short.
const QUESTION_MAX: usize = 1024;
/// Longest answer over UDP, bytes. A longer one is truncated and fetched over TCP.
const DATAGRAM_MAX: usize = 4096;
/// The truncation bit in the third byte of a header.
const TRUNCATED: u8 = 2;
/// Timeout of the host's resolvers, and of silent connections.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after a socket error, for example when no descriptor is free.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The name server. Clones share its counters.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    names: CloudNames,
    addresses: ServiceAddresses,
    limiter: QueryLimiter,
    links: InstanceLinks,
}

impl Resolver {
    pub(super) fn new(
        names: CloudNames,
        addresses: ServiceAddresses,
        links: InstanceLinks,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                names,
                addresses,
                limiter: QueryLimiter::default(),
                links,
            }),
        }
    }

    /// Serves at an address inside, and forwards to `upstream`.
    ///
    /// # Errors
    /// The system's error.
    pub(super) fn serve(
        &self,
        network: &Network,
        address: Ipv4Addr,
        upstream: Option<Ipv4Addr>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), CloudError> {
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

    /// Returns the resolver to which queries of an instance are forwarded. There is none for an instance without a public
    /// network, since queries can carry data out.
    fn upstream_of(&self, from: IpAddr, upstream: Option<SocketAddr>) -> Option<SocketAddr> {
        let is_internal = match from {
            IpAddr::V4(address) => self.shared.links.is_internal(address),
            IpAddr::V6(_) => false,
        };
        upstream.filter(|_| !is_internal)
    }

    fn decide(&self, message: &[u8], upstream: Option<SocketAddr>) -> Decision {
        let Shared {
            names, addresses, ..
        } = &*self.shared;
        decide(message, names, *addresses, upstream.is_some())
    }

    async fn datagrams(self, socket: Arc<UdpSocket>, upstream: Option<SocketAddr>) {
        // One byte longer, to detect queries that are too long.
        let mut buffer = [0; QUESTION_MAX + 1];
        // Dropping it cancels the queries in progress.
        let mut asking = JoinSet::new();
        loop {
            while asking.try_join_next().is_some() {}
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "failed to receive a DNS query");
                    tokio::time::sleep(RETRY_DELAY).await;
                    continue;
                }
            };
            let message = &buffer[..length];
            if length > QUESTION_MAX {
                continue;
            }
            let upstream = self.upstream_of(from.ip(), upstream);
            match (self.decide(message, upstream), upstream) {
                (Decision::Answer(reply), _) => send_reply(&socket, &reply, from).await,
                (Decision::Forward(query), Some(upstream)) => {
                    let Some(permit) = self.shared.limiter.take(from.ip()) else {
                        continue;
                    };
                    let (message, socket) = (message.to_vec(), socket.clone());
                    asking.spawn(async move {
                        let asked = with_timeout(forward_udp(&message, &query, upstream)).await;
                        // On a failure answer, the client asks the next name server at once.
                        if let Some(reply) = asked.or_else(|| failure(&message)) {
                            send_reply(&socket, &reply, from).await;
                        }
                        drop(permit);
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
                    debug!(%error, "failed to accept a connection to the name server");
                    tokio::time::sleep(RETRY_DELAY).await;
                    continue;
                }
            };
            if let Some(permit) = self.shared.limiter.take(from.ip()) {
                let resolver = self.clone();
                connections.spawn(async move {
                    resolver.connection(stream, from.ip(), upstream).await;
                    drop(permit);
                });
            }
        }
    }

    /// Answers the queries of a connection, one after another.
    async fn connection(&self, mut stream: TcpStream, from: IpAddr, upstream: Option<SocketAddr>) {
        let upstream = self.upstream_of(from, upstream);
        while let Some(message) = with_timeout(read(&mut stream, QUESTION_MAX)).await {
            let reply = match (self.decide(&message, upstream), upstream) {
                (Decision::Answer(reply), _) => Some(reply),
                (Decision::Forward(_), Some(upstream)) => {
                    with_timeout(forward_tcp(&message, upstream))
                        .await
                        .or_else(|| failure(&message))
                }
                _ => None,
            };
            let Some(reply) = reply else { return };
            if with_timeout(write(&mut stream, &reply)).await.is_none() {
                debug!(%from, "failed to send a DNS answer over TCP");
                return;
            }
        }
    }
}

/// Waits with a timeout. `None` on an error or after the timeout.
async fn with_timeout<T>(done: impl Future<Output = io::Result<T>>) -> Option<T> {
    match tokio::time::timeout(TIMEOUT, done).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            debug!(%error, "a DNS query failed");
            None
        }
        Err(_) => None,
    }
}

async fn send_reply(socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        debug!(%to, %error, "failed to send a DNS answer");
    }
}

/// Forwards a query over UDP.
async fn forward_udp(message: &[u8], query: &Query, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(upstream).await?;
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut asked = message.to_vec();
    let own: Vec<u8> = asked.drain(..2).collect();
    asked.splice(..0, id);
    socket.send(&asked).await?;
    let mut reply = vec![0; DATAGRAM_MAX];
    loop {
        let length = socket.recv(&mut reply).await?;
        let about = question(&reply[..length]);
        let expected = |read: &Query| read == query;
        if length >= HEADER && reply[..2] == id && about.is_some_and(|(_, read)| expected(&read)) {
            reply.truncate(length);
            if length == DATAGRAM_MAX {
                reply[2] |= TRUNCATED;
            }
            reply[..2].copy_from_slice(&own);
            return Ok(reply);
        }
    }
}

/// Forwards a query over TCP.
async fn forward_tcp(message: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    write(&mut stream, message).await?;
    read(&mut stream, usize::from(u16::MAX)).await
}

/// Reads a message with a length prefix.
async fn read(stream: &mut TcpStream, most: usize) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > most {
        return Err(io::Error::other(format!(
            "a DNS message of {length} bytes is too long; up to {most} are allowed"
        )));
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
