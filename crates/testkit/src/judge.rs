//! Judges a promise: what was acknowledged is delivered at least once.
//!
//! Clients note what they send and what was acknowledged; functions tell a [`Recorder`] what they got, over a connection that the
//! server under judgement has no part in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Where functions tell what they got: a line with a name and a number, answered by a line. Clones share it.
#[derive(Clone, Debug)]
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// How often each number came, by name.
type Seen = BTreeMap<String, BTreeMap<u64, u64>>;

impl Recorder {
    /// Starts to listen.
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
                thread::spawn(move || recorder.hear(stream));
            }
        });
        recorder
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A connection that breaks is that of a function that was killed.
    fn hear(&self, stream: TcpStream) {
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

    /// How often each number came under a name.
    pub fn of(&self, name: &str) -> BTreeMap<u64, u64> {
        self.seen().get(name).cloned().unwrap_or_default()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was promised. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Promises {
    inner: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    acknowledged: BTreeMap<String, BTreeSet<u64>>,
    unknown: BTreeMap<String, BTreeSet<u64>>,
}

impl Promises {
    /// An event was acknowledged.
    pub fn acknowledged(&self, name: &str, number: u64) {
        let mut noted = self.noted();
        noted
            .acknowledged
            .entry(name.to_owned())
            .or_default()
            .insert(number);
    }

    /// Nobody knows whether an event was accepted: its connection broke.
    pub fn unknown(&self, name: &str, number: u64) {
        let mut noted = self.noted();
        noted
            .unknown
            .entry(name.to_owned())
            .or_default()
            .insert(number);
    }

    /// How many were acknowledged so far.
    pub fn count(&self) -> usize {
        self.noted().acknowledged.values().map(BTreeSet::len).sum()
    }

    /// Compares what was promised under a name with what came under another, each so often as was planned.
    pub fn judge(&self, promised: &str, came: &BTreeMap<u64, u64>, planned: u64) -> Verdict {
        let noted = self.noted();
        let empty = BTreeSet::new();
        let acknowledged = noted.acknowledged.get(promised).unwrap_or(&empty);
        let unknown = noted.unknown.get(promised).unwrap_or(&empty);
        let lost = acknowledged
            .iter()
            .filter(|number| !came.contains_key(number));
        let known = |number: &&u64| acknowledged.contains(number) || unknown.contains(number);
        Verdict {
            name: promised.to_owned(),
            acknowledged: acknowledged.len(),
            unknown: unknown.len(),
            delivered: came.len(),
            duplicates: came
                .values()
                .map(|times| times.saturating_sub(planned))
                .sum(),
            lost: lost.copied().collect(),
            invented: came.keys().filter(|n| !known(n)).copied().collect(),
        }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a promise.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Of what.
    pub name: String,
    /// How many were promised.
    pub acknowledged: usize,
    /// Of how many nobody knows whether they were.
    pub unknown: usize,
    /// How many different ones came.
    pub delivered: usize,
    /// How often one came more than was planned.
    pub duplicates: u64,
    /// What was promised and never came.
    pub lost: Vec<u64>,
    /// What came and was never sent.
    pub invented: Vec<u64>,
}

impl Verdict {
    /// Whether the promise was kept.
    pub fn is_kept(&self) -> bool {
        self.lost.is_empty() && self.invented.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            acknowledged,
            unknown,
            delivered,
            duplicates,
            ..
        } = self;
        let (lost, invented) = (self.lost.len(), self.invented.len());
        write!(
            f,
            "{name}: {acknowledged} acknowledged, {unknown} unknown, {delivered} delivered, {duplicates} duplicates, \
             {lost} lost, {invented} invented"
        )
    }
}
