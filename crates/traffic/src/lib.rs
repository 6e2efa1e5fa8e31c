//! Connection limits and memory limits for the listeners of one side, outside or inside.
//!
//! Every accepted connection has an entry in one [`ledger`]. It limits the connections of a source address and the bytes
//! that virga holds for it. Sockets, bodies and replies count the bytes that move ([`stream`], [`flow`]). Once a second
//! a sweep compares them with the minimum rates ([`min_rate`]). Outside and inside have ledgers of their own, so that
//! functions and remote callers cannot crowd each other out.
//!
//! The common case takes no lock: a small request on an open connection only updates the connection's own atomics.
//!
//! Owns accepting, TLS handshakes, and the accounts of connections and bytes. Never knows functions, actions, or how a caller
//! is authenticated.
#![forbid(unsafe_code)]

mod body;
mod connection;
mod fair_semaphore;
mod flow;
mod ledger;
pub mod listen;
mod long_work;
mod min_rate;
mod proxy;
mod spare;
mod stream;
mod throttle;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use model::{AccountId, Source};
use telemetry::{Gauges, Metrics};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

pub use self::body::{
    BodyError, BodyReader, IN_MEMORY_MAX, ReceivedBody, SpooledBody, UNCOUNTED_MAX,
};
use self::connection::{Closing, ConnectionGuard};
pub use self::connection::{Connection, Overloaded, Peer, Reservation};
pub use self::fair_semaphore::{FairPermit, FairSemaphore};
pub use self::flow::RequestBody;
pub(crate) use self::flow::{ReplyBody, wrap_request};
pub use self::ledger::LedgerLimits;
use self::ledger::{Ledger, Medium};
pub use self::long_work::hand_off_if_long;
pub use self::min_rate::MinRateRules;
pub(crate) use self::proxy::{ProxyHeader, read_proxy_header};
pub use self::proxy::{TrustedProxy, client, forwarded};
use self::spare::Spares;
pub(crate) use self::stream::CountedStream;
use self::throttle::Throttle;

/// Bodies of verified callers that are spooled at a time; of unverified callers, one is.
const SPOOL_SLOTS: u64 = 4;
/// Bytes per second of unverified callers' bodies that are drained or spooled.
const UNVERIFIED_BYTES_PER_SECOND: u64 = 32 << 20;

/// The configured limits on traffic whose caller is not authenticated yet.
#[derive(Clone, Debug)]
pub struct TrafficSettings {
    /// Maximum number of connections of each side.
    pub connections: usize,
    /// Memory for requests and responses.
    pub memory_bytes: u64,
    /// Disk space for request bodies.
    pub spool_bytes: u64,
    /// Time that a peer may be slower than `min_rate`.
    pub stall_timeout: Duration,
    /// Minimum transfer rate, in bytes per second; 0 = any.
    pub min_rate: u64,
    /// Trusted reverse proxies.
    pub proxies: Vec<TrustedProxy>,
}

/// The limits for connections of one side.
#[derive(Clone, Copy, Debug)]
pub struct TrafficRules {
    /// The label of the metrics.
    pub side: &'static str,
    /// The limits on connections and bytes.
    pub limits: LedgerLimits,
    /// The minimum rates.
    pub min_rate: MinRateRules,
}

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Memory for verified callers, as a multiple of that for unverified ones, and the divisor for one account.
const VERIFIED: u64 = 4;
const ACCOUNT: u64 = 2;
/// The divisor for the connections reserved for recently verified sources.
const RESERVE: usize = 8;
/// The divisor for the connections of one instance.
const INSTANCE: usize = 32;

impl TrafficRules {
    /// Returns the limits for connections from outside. `files` is the process's limit of open files.
    pub fn outside(settings: &TrafficSettings, head: Duration, files: u64) -> Self {
        let connections = settings.connections.min(files as usize / 8).max(16);
        let memory = settings.memory_bytes;
        Self {
            side: "outside",
            limits: LedgerLimits {
                connections,
                reserve: connections / RESERVE,
                per_source: connections / 2,
                per_account: connections / 2,
                unverified: memory,
                unverified_per_source: memory / 2,
                verified: memory * VERIFIED,
                verified_per_account: memory * VERIFIED / ACCOUNT,
                spool: settings.spool_bytes,
                spool_per_source: settings.spool_bytes / 4,
            },
            min_rate: MinRateRules {
                head,
                handshake: HANDSHAKE.min(head),
                grace: settings.stall_timeout,
                rate: settings.min_rate,
            },
        }
    }

    /// Returns the memory for spooled bodies of verified callers, in bytes.
    pub fn bodies(settings: &TrafficSettings) -> u64 {
        settings.memory_bytes * VERIFIED
    }

    /// Returns the limits for connections of functions, where each instance is a source.
    pub fn inside(settings: &TrafficSettings, head: Duration, files: u64) -> Self {
        let outside = Self::outside(settings, head, files);
        let limits = outside.limits;
        Self {
            side: "inside",
            limits: LedgerLimits {
                per_source: (limits.connections / INSTANCE).max(8),
                unverified: limits.unverified / 2,
                unverified_per_source: limits.unverified / 4,
                ..limits
            },
            ..outside
        }
    }
}

/// The connections of one side. Clones share the state.
#[derive(Clone, Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Mutex<Ledger<Arc<Connection>>>,
    spares: Mutex<Spares<Arc<Connection>>>,
    throttle: Throttle,
    proxies: Vec<TrustedProxy>,
    /// The directory for spooled bodies.
    directory: PathBuf,
    /// Slots to hash and write a body: of verified callers, and of unverified ones.
    spoolers: FairSemaphore<AccountId>,
    unverified: Semaphore,
    metrics: Arc<Metrics>,
    /// The label of the metrics.
    side: &'static str,
    begun: Instant,
    /// Seconds since then, as of the last sweep.
    now: AtomicU64,
}

impl Traffic {
    /// Starts the accounting and the sweep, which ends when the sender of `stopped` is dropped.
    pub fn start(
        rules: TrafficRules,
        proxies: &[TrustedProxy],
        directory: &Path,
        metrics: Arc<Metrics>,
        stopped: watch::Receiver<()>,
    ) -> Self {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(rules.limits)),
            spares: Mutex::new(Spares::new()),
            throttle: Throttle::new(UNVERIFIED_BYTES_PER_SECOND),
            proxies: proxies.to_vec(),
            directory: directory.to_owned(),
            spoolers: FairSemaphore::new(SPOOL_SLOTS),
            unverified: Semaphore::new(1),
            metrics,
            side: rules.side,
            begun: Instant::now(),
            now: AtomicU64::new(0),
        });
        tokio::spawn(sweep(shared.clone(), rules.min_rate, stopped));
        Self { shared }
    }

    /// Registers the number of connections.
    pub fn register_gauges(&self, gauges: &Gauges) {
        let shared = self.shared.clone();
        gauges.register(move |metrics| {
            metrics.connections(shared.side, shared.ledger().connections());
            std::future::ready(())
        });
    }

    /// Returns the trusted proxies.
    pub fn proxies(&self) -> &[TrustedProxy] {
        &self.shared.proxies
    }

    /// Returns whether an address is a trusted proxy's.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        proxy::is_trusted(&self.shared.proxies, address)
    }

    /// Moves a connection to the client named by a trusted proxy. Returns whether the client may have it.
    pub(crate) fn move_to(&self, connection: &Connection, client: IpAddr) -> bool {
        if connection.is_spare() {
            return true;
        }
        let (shared, mut shed) = (&self.shared, Vec::new());
        let source = Source::of(client);
        let moved = shared
            .ledger()
            .move_to(connection.id(), source, shared.now(), &mut shed);
        shared.shed(shed);
        if !moved {
            shared.metrics.connection_closed("refused");
        }
        moved
    }

    /// Admits a connection; as a spare one if nothing can be evicted for it. Trusted proxies have no limit of their own.
    pub fn admit(&self, from: IpAddr) -> ConnectionGuard {
        let shared = &self.shared;
        let exempt = self.trusts(from);
        let now = shared.now();
        let make = |id| Connection::new(shared.clone(), id, false, now);
        let mut shed = Vec::new();
        let source = Source::of(from);
        let admitted = shared.ledger().admit(source, exempt, now, make, &mut shed);
        shared.shed(shed);
        ConnectionGuard(admitted.unwrap_or_else(|| {
            shared.metrics.connection_closed("refused");
            debug!(%from, "too many connections of this address or in total; this one may request /healthz alone");
            shared.admit_spare(source)
        }))
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Connection>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spares(&self) -> MutexGuard<'_, Spares<Arc<Connection>>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit_spare(self: &Arc<Self>, source: Source) -> Arc<Connection> {
        let id = self.ledger().next_id();
        let connection = Connection::new(self.clone(), id, true, self.now());
        let gone = self.spares().admit(id, source, connection.clone());
        if let Some(gone) = gone {
            self.close(&gone, Closing::Shed);
        }
        connection
    }

    /// Returns the seconds since the start.
    fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    /// Charges a connection for bytes that it holds already, and closes it if that is refused.
    fn must_charge(&self, connection: &Connection, bytes: u64) {
        if !self.charge(connection, Medium::Memory, bytes) {
            self.close(connection, Closing::Shed);
        }
    }

    /// Charges a connection. Returns whether it may hold the bytes.
    fn charge(&self, connection: &Connection, store: Medium, bytes: u64) -> bool {
        if connection.is_spare() {
            return connection.hold_spare(bytes);
        }
        let charged = self
            .ledger()
            .charge(connection.id(), store, bytes, self.now());
        self.shed(charged.shed);
        !charged.refused
    }

    fn release(&self, connection: &Connection, store: Medium, bytes: u64) {
        if connection.is_spare() {
            return connection.release_spare(bytes);
        }
        self.ledger().release(connection.id(), store, bytes);
    }

    fn leave(&self, connection: &Connection) {
        if connection.is_spare() {
            return self.spares().leave(connection.id());
        }
        self.ledger().remove(connection.id());
    }

    fn shed(&self, shed: Vec<Arc<Connection>>) {
        for connection in shed {
            self.close(&connection, Closing::Shed);
        }
    }

    fn close(&self, connection: &Connection, why: Closing) {
        self.metrics.connection_closed(why.as_str());
        connection.close();
    }
}

/// Closes the connections of peers that are too slow.
async fn sweep(shared: Arc<Shared>, rules: MinRateRules, mut stopped: watch::Receiver<()>) {
    let shortest = rules.head.min(rules.grace);
    let period = (shortest / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.changed() => return,
        }
        let elapsed = last.elapsed();
        last = Instant::now();
        let now = shared.begun.elapsed().as_secs();
        shared.now.store(now, Relaxed);
        let slow: Vec<_> = {
            let mut ledger = shared.ledger();
            ledger.forget(now);
            let spares = shared.spares();
            let all = ledger.all().chain(spares.all());
            all.filter_map(|connection| {
                let slow = connection.step(&rules, elapsed)?;
                Some((connection.clone(), slow))
            })
            .collect()
        };
        for (connection, slow) in slow {
            shared.close(&connection, Closing::Slow(slow));
        }
    }
}
