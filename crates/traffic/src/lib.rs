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
mod rules;
mod spare;
mod spooler;
mod state;
mod stream;
mod throttle;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Source;
use telemetry::{Gauges, Metrics};
use tokio::sync::watch;
use tracing::debug;

pub use self::body::{
    BodyError, BodyReader, IN_MEMORY_MAX, ReceivedBody, SpooledBody, UNCOUNTED_MAX,
};
use self::connection::{Closing, ConnectionGuard, shed};
pub use self::connection::{Connection, Overloaded, Peer, Reservation};
pub use self::fair_semaphore::{FairPermit, FairSemaphore};
pub use self::flow::RequestBody;
pub(crate) use self::flow::{ReplyBody, wrap_request};
pub use self::ledger::LedgerLimits;
pub use self::long_work::hand_off_if_long;
pub use self::min_rate::MinRateRules;
pub(crate) use self::proxy::{ProxyHeader, read_proxy_header};
pub use self::proxy::{TrustedProxy, client, forwarded};
pub use self::rules::{TrafficRules, TrafficSettings};
use self::spooler::Spooler;
use self::state::State;
pub(crate) use self::stream::CountedStream;

/// The connections of one side. Clones share the state.
#[derive(Clone, Debug)]
pub struct Traffic {
    state: Arc<State<Arc<Connection>>>,
    proxies: Arc<[TrustedProxy]>,
    side: &'static str,
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
        let state = Arc::new(State::new(rules.limits, Spooler::new(directory), metrics));
        tokio::spawn(sweep(state.clone(), rules.min_rate, stopped));
        Self {
            state,
            proxies: proxies.into(),
            side: rules.side,
        }
    }

    /// Registers the number of connections.
    pub fn register_gauges(&self, gauges: &Gauges) {
        let (state, side) = (self.state.clone(), self.side);
        gauges.register(move |metrics| {
            metrics.connections(side, state.ledger().connections());
            std::future::ready(())
        });
    }

    /// Returns the trusted proxies.
    pub fn proxies(&self) -> &[TrustedProxy] {
        &self.proxies
    }

    /// Returns whether an address is a trusted proxy's.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        proxy::is_trusted(&self.proxies, address)
    }

    /// Moves a connection to the client named by a trusted proxy. Returns whether the client may have it.
    pub(crate) fn move_to(&self, connection: &Connection, client: IpAddr) -> bool {
        if connection.is_spare() {
            return true;
        }
        let (state, mut gone) = (&self.state, Vec::new());
        let source = Source::of(client);
        let moved = state
            .ledger()
            .move_to(connection.id(), source, state.now(), &mut gone);
        shed(gone);
        if !moved {
            state.metrics.connection_closed("refused");
        }
        moved
    }

    /// Admits a connection; as a spare one if nothing can be evicted for it. Trusted proxies have no limit of their own.
    pub fn admit(&self, from: IpAddr) -> ConnectionGuard {
        let state = &self.state;
        let exempt = self.trusts(from);
        let now = state.now();
        let make = |id| Connection::new(state.clone(), id, false, now);
        let mut gone = Vec::new();
        let source = Source::of(from);
        let admitted = state.ledger().admit(source, exempt, now, make, &mut gone);
        shed(gone);
        ConnectionGuard(admitted.unwrap_or_else(|| {
            state.metrics.connection_closed("refused");
            debug!(%from, "too many connections of this address or in total; this one may request /healthz alone");
            self.admit_spare(source)
        }))
    }

    fn admit_spare(&self, source: Source) -> Arc<Connection> {
        let state = &self.state;
        let id = state.ledger().next_id();
        let connection = Connection::new(state.clone(), id, true, state.now());
        let gone = state.spares().admit(id, source, connection.clone());
        shed(gone);
        connection
    }
}

/// Closes the connections of peers that are too slow.
async fn sweep(
    state: Arc<State<Arc<Connection>>>,
    rules: MinRateRules,
    mut stopped: watch::Receiver<()>,
) {
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
        let now = state.tick();
        let slow: Vec<_> = {
            let mut ledger = state.ledger();
            ledger.forget(now);
            let spares = state.spares();
            let all = ledger.all().chain(spares.all());
            all.filter_map(|connection| {
                let slow = connection.step(&rules, elapsed)?;
                Some((connection.clone(), slow))
            })
            .collect()
        };
        for (connection, slow) in slow {
            connection.close_for(Closing::Slow(slow));
        }
    }
}
