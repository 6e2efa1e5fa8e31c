//! A conformance check of at-least-once delivery: every acknowledged event is delivered.
//!
//! Clients log which events were acknowledged. Functions report the events that they receive to a [`Recorder`], over a
//! connection that does not pass through the server under test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A TCP server that records deliveries. A function sends a line with a name and a number, and receives the number of
/// deliveries so far. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// Number of deliveries of each event, by name and number.
type Seen = BTreeMap<String, BTreeMap<u64, u64>>;

impl Recorder {
    /// Binds a port and starts to record.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let recorder = Self {
            address: listener.local_addr().expect("an address"),
            seen: Arc::default(),
        };
        let own = recorder.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let recorder = own.clone();
                thread::spawn(move || recorder.record(stream));
            }
        });
        recorder
    }

    /// Returns its port on this host.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Records one delivery. A broken connection is not an error: the function was killed.
    fn record(&self, stream: TcpStream) {
        let mut line = String::new();
        let reader = stream.try_clone().map(BufReader::new);
        let read = reader.and_then(|mut reader| reader.read_line(&mut line));
        let mut words = line.split_whitespace();
        let (Ok(1..), Some(name), Some(number)) = (read, words.next(), words.next()) else {
            return;
        };
        let Ok(number) = number.parse() else { return };
        let times = {
            let mut seen = self.seen();
            let times = seen
                .entry(name.to_owned())
                .or_default()
                .entry(number)
                .or_default();
            *times += 1;
            *times
        };
        let mut stream = stream;
        let _ = writeln!(stream, "{times}");
    }

    /// Returns the number of deliveries of each event with a name.
    pub fn of(&self, name: &str) -> BTreeMap<u64, u64> {
        self.seen().get(name).cloned().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients' log of sent events. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct DeliveryLog {
    inner: Arc<Mutex<Sent>>,
}

#[derive(Debug, Default)]
struct Sent {
    acknowledged: BTreeMap<String, BTreeSet<u64>>,
    unknown: BTreeMap<String, BTreeSet<u64>>,
}

impl DeliveryLog {
    /// Logs an acknowledged event.
    pub fn acknowledged(&self, name: &str, number: u64) {
        let mut sent = self.sent();
        sent.acknowledged
            .entry(name.to_owned())
            .or_default()
            .insert(number);
    }

    /// Logs an event of unknown outcome, whose connection broke.
    pub fn unknown(&self, name: &str, number: u64) {
        let mut sent = self.sent();
        sent.unknown
            .entry(name.to_owned())
            .or_default()
            .insert(number);
    }

    /// Returns the number of acknowledged events so far.
    pub fn count(&self) -> usize {
        self.sent().acknowledged.values().map(BTreeSet::len).sum()
    }

    /// Compares the events sent under a name with their deliveries, of which `expected` per event are planned.
    pub fn check(
        &self,
        name: &str,
        deliveries: &BTreeMap<u64, u64>,
        expected: u64,
    ) -> DeliveryReport {
        let sent = self.sent();
        let empty = BTreeSet::new();
        let acknowledged = sent.acknowledged.get(name).unwrap_or(&empty);
        let unknown = sent.unknown.get(name).unwrap_or(&empty);
        let lost = acknowledged
            .iter()
            .filter(|number| !deliveries.contains_key(number));
        let known = |number: &&u64| acknowledged.contains(number) || unknown.contains(number);
        DeliveryReport {
            name: name.to_owned(),
            acknowledged: acknowledged.len(),
            unknown: unknown.len(),
            delivered: deliveries.len(),
            duplicates: deliveries
                .values()
                .map(|times| times.saturating_sub(expected))
                .sum(),
            lost: lost.copied().collect(),
            unexpected: deliveries.keys().filter(|n| !known(n)).copied().collect(),
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a delivery check.
#[derive(Clone, Debug)]
pub struct DeliveryReport {
    /// Name of the events.
    pub name: String,
    /// Number of acknowledged events.
    pub acknowledged: usize,
    /// Number of events with unknown outcome.
    pub unknown: usize,
    /// Number of distinct delivered events.
    pub delivered: usize,
    /// Number of deliveries beyond the expected ones.
    pub duplicates: u64,
    /// Events that were acknowledged but never delivered.
    pub lost: Vec<u64>,
    /// Events that were delivered but never sent.
    pub unexpected: Vec<u64>,
}

impl DeliveryReport {
    /// Returns whether every acknowledged event, and no event that was never sent, was delivered.
    pub fn is_at_least_once(&self) -> bool {
        self.lost.is_empty() && self.unexpected.is_empty()
    }
}

impl fmt::Display for DeliveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            acknowledged,
            unknown,
            delivered,
            duplicates,
            ..
        } = self;
        let (lost, unexpected) = (self.lost.len(), self.unexpected.len());
        write!(
            f,
            "{name}: {acknowledged} acknowledged, {unknown} unknown, {delivered} delivered, {duplicates} duplicates, \
             {lost} lost, {unexpected} unexpected"
        )
    }
}
