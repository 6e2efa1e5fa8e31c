//! The state of one connection: bytes held, activity, and whether it is closing.
//!
//! The tasks that move bytes write it without a lock; the sweep and the ledger read it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::AccountId;
use thiserror::Error;
use tokio::sync::Notify;

use super::ledger::{Active, Activity, BASE_COST, ConnectionId, Medium};
use super::min_rate::{MinRateRules, Phase, RateMonitor, RateSample, Slow};
use super::spare;
use super::spooler::Spooler;
use super::state::State;

/// Bytes of buffers that are covered by the base cost; beyond them each increase is charged.
const STEP: u64 = 16 << 10;
/// How long a source counts as verified, and how often that is renewed, in seconds.
const VERIFIED_FOR: u64 = 600;
const RENEW_AFTER: u64 = 60;
const NEVER: u64 = u64::MAX;

/// The reason why virga closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Slow(Slow),
    /// Evicted in favour of other connections.
    Shed,
    /// The function whose reply it reads has timed out.
    Late,
}

impl Closing {
    /// Returns the label of the metric.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Slow(Slow::Idle) => "idle",
            Self::Slow(Slow::Handshake) => "slow handshake",
            Self::Slow(Slow::Head) => "slow head",
            Self::Slow(Slow::Body) => "slow body",
            Self::Slow(Slow::Reader) => "slow reader",
            Self::Shed => "shed",
            Self::Late => "late",
        }
    }
}

/// The budgets have no capacity for what a connection is about to hold.
#[derive(Debug, Error)]
#[error("too many bytes are held for this caller at the moment; try again later")]
pub struct Overloaded;

/// A connection. It leaves the ledger when its [`ConnectionGuard`] is dropped.
#[derive(Debug)]
pub struct Connection {
    state: Arc<State<Arc<Self>>>,
    id: ConnectionId,
    /// Whether it is a spare connection, which may request `/healthz` alone, and the bytes that it holds outside the
    /// ledger.
    spare: bool,
    spare_held: AtomicU64,
    phase: AtomicU8,
    requests: AtomicU64,
    /// Parts of the current request under way: its body, and its reply.
    parts: AtomicU8,
    body_owed: AtomicBool,
    /// Whether the socket accepts no more bytes at present.
    blocked: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    /// Bytes of replies passed to the connection but not yet to the socket.
    unsent: AtomicU64,
    /// The part of `unsent` that is charged.
    unsent_charged: AtomicU64,
    /// Bytes of an incomplete head.
    head: AtomicU64,
    /// The part of the receive buffer that is charged.
    buffer_charged: AtomicU64,
    /// Since when it is idle, and when its source was last recorded as verified, in seconds.
    idle_since: AtomicU64,
    verified_at: AtomicU64,
    account: AtomicU64,
    /// Whether it carries the requests of many clients, as a proxy's does.
    shared_by_clients: AtomicBool,
    discards_rest: AtomicBool,
    closing: AtomicBool,
    close: Notify,
    rate_monitor: Mutex<RateMonitor>,
}

const PHASES: [Phase; 5] = [
    Phase::Handshake,
    Phase::Idle,
    Phase::Head,
    Phase::Serving,
    Phase::Upgraded,
];

impl Connection {
    pub(super) fn new(
        state: Arc<State<Arc<Self>>>,
        id: ConnectionId,
        spare: bool,
        now: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            state,
            id,
            spare,
            spare_held: AtomicU64::new(0),
            phase: AtomicU8::new(Phase::Handshake as u8),
            requests: AtomicU64::new(0),
            parts: AtomicU8::new(0),
            body_owed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            unsent_charged: AtomicU64::new(0),
            head: AtomicU64::new(0),
            buffer_charged: AtomicU64::new(0),
            idle_since: AtomicU64::new(now),
            verified_at: AtomicU64::new(NEVER),
            account: AtomicU64::new(0),
            shared_by_clients: AtomicBool::new(false),
            discards_rest: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            rate_monitor: Mutex::default(),
        })
    }

    fn phase(&self) -> Phase {
        let phase = PHASES.get(usize::from(self.phase.load(Relaxed)));
        phase.copied().unwrap_or(Phase::Idle)
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    /// Returns whether it may request `/healthz` alone.
    pub(crate) fn is_spare(&self) -> bool {
        self.spare
    }

    /// Charges it for bytes that it holds already, and closes it if that is refused.
    fn must_charge(&self, bytes: u64) {
        if !self.charge(Medium::Memory, bytes) {
            self.close_for(Closing::Shed);
        }
    }

    /// Charges it for bytes. Returns whether it may hold them.
    fn charge(&self, store: Medium, bytes: u64) -> bool {
        if self.spare {
            return self.hold_spare(bytes);
        }
        let (state, now) = (&self.state, self.state.now());
        let charged = state.ledger().charge(self.id, store, bytes, now);
        shed(charged.shed);
        !charged.refused
    }

    fn release(&self, store: Medium, bytes: u64) {
        if self.spare {
            self.spare_held.fetch_sub(bytes, Relaxed);
        } else {
            self.state.ledger().release(self.id, store, bytes);
        }
    }

    fn leave(&self) {
        if self.spare {
            self.state.spares().leave(self.id);
        } else {
            self.state.ledger().remove(self.id);
        }
    }

    /// Accounts bytes of a spare connection. Returns whether it may hold them.
    fn hold_spare(&self, bytes: u64) -> bool {
        let held = self.spare_held.fetch_add(bytes, Relaxed) + bytes;
        let fits = held <= spare::BYTES_MAX;
        if !fits {
            self.spare_held.fetch_sub(bytes, Relaxed);
        }
        fits
    }

    /// Marks the end of the handshake: requests can be read from now on.
    pub fn ready(&self) {
        self.go_idle();
    }

    fn go_idle(&self) {
        self.head.store(0, Relaxed);
        self.idle_since.store(self.state.now(), Relaxed);
        self.set_phase(Phase::Idle);
    }

    /// Records that a request's head was read. The request is over when both of its parts are dropped.
    pub(super) fn begin(self: &Arc<Self>) -> [RequestPart; 2] {
        self.requests
            .store(self.requests.load(Relaxed) + 1, Relaxed);
        self.head.store(0, Relaxed);
        self.parts.store(2, Relaxed);
        self.set_phase(Phase::Serving);
        [RequestPart(self.clone()), RequestPart(self.clone())]
    }

    /// Records the switch to another protocol.
    pub fn upgrade(&self) {
        self.set_phase(Phase::Upgraded);
    }

    /// Sets whether virga waits for bytes of a body.
    pub(super) fn set_body_owed(&self, owes: bool) {
        self.body_owed.store(owes, Relaxed);
    }

    /// Records received bytes, read into a buffer with space for `offered`.
    pub(super) fn received(&self, bytes: u64, offered: u64) {
        self.received
            .store(self.received.load(Relaxed) + bytes, Relaxed);
        let mut head = 0;
        match self.phase() {
            Phase::Idle if bytes > 0 => {
                head = bytes;
                self.head.store(bytes, Relaxed);
                self.set_phase(Phase::Head);
            }
            Phase::Head => {
                head = self.head.load(Relaxed) + bytes;
                self.head.store(head, Relaxed);
            }
            _ => {}
        }
        // The read buffer, and as much again that was read before and is being parsed.
        let buffer = (head + 2 * offered).saturating_sub(STEP);
        let charged = self.buffer_charged.load(Relaxed);
        if buffer > charged {
            self.buffer_charged.store(buffer, Relaxed);
            self.must_charge(buffer - charged);
        }
    }

    /// Records bytes written to the socket.
    pub(super) fn sent(&self, bytes: u64) {
        self.sent.store(self.sent.load(Relaxed) + bytes, Relaxed);
        self.blocked.store(false, Relaxed);
        let unsent = self.unsent.load(Relaxed);
        if unsent == 0 {
            return;
        }
        let unsent = unsent.saturating_sub(bytes);
        self.unsent.store(unsent, Relaxed);
        let charged = self.unsent_charged.load(Relaxed);
        if charged > 0 && (unsent == 0 || charged - charged.min(unsent) >= 4 * STEP) {
            self.unsent_charged.store(unsent, Relaxed);
            let less = charged.saturating_sub(unsent);
            self.release(Medium::Memory, less);
        }
    }

    /// Records that the socket accepts no more bytes.
    pub(super) fn blocked(&self) {
        self.blocked.store(true, Relaxed);
    }

    /// Records bytes of a reply passed to the connection.
    pub(super) fn queued(&self, bytes: u64) {
        let unsent = self.unsent.load(Relaxed) + bytes;
        self.unsent.store(unsent, Relaxed);
        let charged = self.unsent_charged.load(Relaxed);
        if unsent > charged + STEP {
            self.unsent_charged.store(unsent, Relaxed);
            self.must_charge(unsent - charged);
        }
    }

    /// Marks the connection as shared by many clients, so that its bytes never count for one account.
    pub(crate) fn mark_shared_by_clients(&self) {
        self.shared_by_clients.store(true, Relaxed);
    }

    /// Records that a request was verified as an account's.
    pub fn verified(&self, account: AccountId) {
        let now = self.state.now();
        let known = self.account.load(Relaxed) == account.0 || self.shared_by_clients.load(Relaxed);
        let verified_at = self.verified_at.load(Relaxed);
        if known && verified_at != NEVER && now.saturating_sub(verified_at) < RENEW_AFTER {
            return;
        }
        self.account.store(account.0, Relaxed);
        self.verified_at.store(now, Relaxed);
        if self.shared_by_clients.load(Relaxed) {
            self.account.store(0, Relaxed);
            return self.state.ledger().trust(self.id, now + VERIFIED_FOR);
        }
        let gone = self
            .state
            .ledger()
            .verified(self.id, account, now + VERIFIED_FOR);
        shed(gone);
    }

    /// Returns the account as which a request was verified.
    pub(super) fn account(&self) -> Option<AccountId> {
        let account = self.account.load(Relaxed);
        (account != 0).then_some(AccountId(account))
    }

    /// Reserves bytes of memory until the returned value is dropped.
    ///
    /// # Errors
    /// [`Overloaded`] if the holder of this connection would hold the most.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Overloaded> {
        self.reserve_in(Medium::Memory, bytes)
    }

    pub(super) fn reserve_in(
        self: &Arc<Self>,
        store: Medium,
        bytes: u64,
    ) -> Result<Reservation, Overloaded> {
        let mut held = Reservation {
            connection: self.clone(),
            store,
            bytes: 0,
        };
        held.grow(bytes)?;
        Ok(held)
    }

    /// Discards the rest of the request's body instead of draining it.
    pub fn discard_rest(&self) {
        self.discards_rest.store(true, Relaxed);
    }

    pub(super) fn discards_rest(&self) -> bool {
        self.discards_rest.load(Relaxed)
    }

    pub(super) fn spooler(&self) -> &Spooler {
        &self.state.spooler
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Closes the connection because the function whose reply it reads has timed out.
    pub fn close_late(&self) {
        self.close_for(Closing::Late);
    }

    /// Asks the connection's task to end, and counts why.
    pub(super) fn close_for(&self, why: Closing) {
        self.state.metrics.connection_closed(why.as_str());
        self.closing.store(true, Relaxed);
        self.close.notify_waiters();
    }

    /// Waits until the connection is to end. Several tasks may wait.
    pub async fn closed(&self) {
        loop {
            let mut notified = std::pin::pin!(self.close.notified());
            // Registers before the flag is read, so that no notification is lost.
            notified.as_mut().enable();
            if self.closing.load(Relaxed) {
                return;
            }
            notified.await;
        }
    }

    /// Takes a sample of the peer's progress. Returns how it is too slow, if it is.
    pub(super) fn step(&self, rules: &MinRateRules, elapsed: Duration) -> Option<Slow> {
        let sample = RateSample {
            phase: self.phase(),
            requests: self.requests.load(Relaxed),
            body_owed: self.body_owed.load(Relaxed),
            read_owed: self.blocked.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
        };
        let mut rate_monitor = self
            .rate_monitor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rate_monitor.step(rules, elapsed, sample)
    }
}

/// Closes connections in favour of others.
pub(super) fn shed(connections: impl IntoIterator<Item = Arc<Connection>>) {
    for connection in connections {
        connection.close_for(Closing::Shed);
    }
}

impl Active for Arc<Connection> {
    fn activity(&self) -> Activity {
        if self.blocked.load(Relaxed) {
            return Activity::Reading;
        }
        match self.phase() {
            Phase::Idle => Activity::Idle(self.idle_since.load(Relaxed)),
            Phase::Handshake | Phase::Head => Activity::Sending,
            Phase::Serving if self.body_owed.load(Relaxed) => Activity::Sending,
            Phase::Serving | Phase::Upgraded => Activity::Serving,
        }
    }
}

/// A request's body or its reply, while it is under way.
#[derive(Debug)]
pub(crate) struct RequestPart(Arc<Connection>);

impl RequestPart {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for RequestPart {
    fn drop(&mut self) {
        let last = self.0.parts.fetch_sub(1, Relaxed) == 1;
        if last && self.0.phase() == Phase::Serving {
            self.0.go_idle();
        }
    }
}

/// A connection's entry in the ledger, which is removed on drop.
#[derive(Debug)]
pub struct ConnectionGuard(pub(super) Arc<Connection>);

impl ConnectionGuard {
    /// Returns the connection.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub struct Reservation {
    connection: Arc<Connection>,
    store: Medium,
    bytes: u64,
}

impl Reservation {
    /// Reserves more bytes.
    ///
    /// # Errors
    /// [`Overloaded`], as [`Connection::reserve`].
    pub fn grow(&mut self, bytes: u64) -> Result<(), Overloaded> {
        if bytes == 0 {
            return Ok(());
        }
        if self.connection.charge(self.store, bytes) {
            self.bytes += bytes;
            Ok(())
        } else {
            Err(Overloaded)
        }
    }
}

impl Reservation {
    /// Reduces the reservation to the given bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.connection.release(self.store, less);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.connection.release(self.store, self.bytes);
        }
    }
}

/// The peer of a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address, as named by a trusted proxy if there is one.
    pub address: IpAddr,
    /// The address at the other end of the connection, and whether it is a trusted proxy's.
    pub hop: IpAddr,
    /// Whether a trusted proxy named the address.
    pub through_proxy: bool,
    /// Whether the connection has TLS.
    pub tls: bool,
    /// The connection by which the request came.
    pub connection: Arc<Connection>,
}

const _: () = assert!(BASE_COST < STEP);
