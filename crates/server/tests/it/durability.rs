//! Checks the promise that an accepted event is never lost: virga is killed at random instants, its disk is filled and its
//! clock moved while clients send events; at the end each acknowledged one has been delivered or is where dead letters go. Others
//! call meanwhile, and each call that was answered is in the ledger.
//!
//! The clock is `libfaketime`'s. While virga runs it jumps by minutes, as far as signatures allow; before a start it is hours behind
//! the stored time.
//!
//! `VIRGA_DURABILITY_KILLS` says how often it is killed, `VIRGA_DURABILITY_SEED` by which dice. Functions run without isolation, so that they
//! can report their events to a recorder outside of virga.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::{Client, DeliveryLog, Options, Random, Recorder, Server, eventually};

use crate::VIRGA;
use crate::disk::Disk;

const KILLS: u64 = 6;
const SENDERS: u64 = 3;

/// Reports to the recorder, and fails as its event says: never, the first time, or always.
const TELLS: &str = r#"
import json, socket
def report(port, name, n):
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(("%s %d\n" % (name, n)).encode())
        return int(connection.makefile().readline())
def main_handler(event, context):
    if "Body" in event:
        event = json.loads(event["Body"]["ClientContext"])
        event["fails"], name = 0, "dead"
    else:
        name = context["function_name"]
    times = report(event["port"], name, event["n"])
    if times <= event["fails"]:
        raise ValueError("on purpose")
"#;

/// How each function's events fail, and where they come out.
const FUNCTIONS: [(&str, u64, &str); 3] = [
    ("works", 0, "works"),
    ("flaky", 1, "flaky"),
    ("fails", 1_000_000, "dead"),
];

/// A function that is called synchronously.
const CALLED: &str = "called";
/// How far the clock jumps while virga runs, seconds; a signature is good for five minutes.
const JUMP: i64 = 240;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// Calls until `stop` is set and one call was answered: on a slow machine that may be after the last kill. Returns the number of
/// answered calls.
fn call(client: &Client, port: u16, next: &AtomicU64, stop: &AtomicBool) -> u64 {
    let mut answered = 0;
    let begun = Instant::now();
    let in_vain = |answered: u64| answered == 0 && begun.elapsed() < Duration::from_secs(300);
    while !stop.load(Ordering::Relaxed) || in_vain(answered) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let event = json!({"n": n, "fails": 0, "port": port}).to_string();
        let request = json!({"FunctionName": CALLED, "ClientContext": event});
        match client.attempt("Invoke", &request) {
            Some(Ok(answer)) if answer["Result"]["InvokeResult"] == 0 => answered += 1,
            _ => thread::sleep(Duration::from_millis(20)),
        }
        thread::sleep(Duration::from_millis(8));
    }
    answered
}

/// Sends events until `stop` is set, and records the acknowledged ones.
fn send(client: &Client, port: u16, next: &AtomicU64, stop: &AtomicBool, promises: &DeliveryLog) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (name, fails, _) = FUNCTIONS[n as usize % FUNCTIONS.len()];
        let event = json!({"n": n, "fails": fails, "port": port}).to_string();
        let request =
            json!({"FunctionName": name, "InvocationType": "Event", "ClientContext": event});
        match client.attempt("Invoke", &request) {
            Some(Ok(_)) => promises.acknowledged(name, n),
            // It may be on disk all the same: a full one can refuse the answer's commit after the fact.
            Some(Err(_)) | None => {
                promises.unknown(name, n);
                thread::sleep(Duration::from_millis(20));
            }
        }
        thread::sleep(Duration::from_millis(8));
    }
}

/// A clock that can be set, of the processes that are started with its environment.
struct FakeClock(PathBuf);

impl FakeClock {
    fn new(directory: &std::path::Path) -> Self {
        let clock = Self(directory.join("clock"));
        clock.set(-JUMP);
        clock
    }

    /// That a server which was started just now goes by it.
    fn check(&self, server: &Server) {
        let log = server.log();
        let first: serde_json::Value =
            serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
        let time = first["timestamp"].as_str().expect("a time");
        let time: jiff::Timestamp = time.parse().expect("a time");
        let behind = jiff::Timestamp::now().duration_since(time).as_secs();
        assert!((JUMP..JUMP + 60).contains(&behind), "{behind} s behind");
    }

    /// Seconds ahead of the host's, from now on.
    fn set(&self, ahead: i64) {
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{ahead:+}s")).expect("written");
        fs::rename(next, &self.0).expect("renamed");
    }

    fn environment(&self) -> Vec<(String, String)> {
        let places = fs::read_dir("/usr/lib").expect("a directory").flatten();
        let library = places
            .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.exists())
            .expect("libfaketime; scripts/setup test installs it");
        let file = self.0.to_str().expect("a path");
        [
            ("LD_PRELOAD", library.to_str().expect("a path")),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// As if all so far had happened minutes later: the host's clock is set back. All moves of a run together stay below the three
/// days after which an end is forgotten, since the ledger is compared with the ends.
fn move_clock(server: &Server, minutes: u64) {
    let ahead = (minutes * 60_000_000) as i64;
    let store = rusqlite::Connection::open(server.data().join("events.sqlite")).expect("a store");
    for change in [
        "UPDATE event SET due = due + ?1, accepted = accepted + ?1 WHERE state <= 1",
        "UPDATE replica SET time = time + ?1",
    ] {
        store.execute(change, [ahead]).expect("changed");
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn no_acknowledged_event_is_lost() {
    let kills = setting("VIRGA_DURABILITY_KILLS", KILLS);
    let seed = setting("VIRGA_DURABILITY_SEED", 0x9e37_79b9_7f4a_7c15);
    let mut dice = Random::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::mount(directory.path(), 64);
    let clock = FakeClock::new(directory.path());
    let address = format!("127.0.0.1:{}", free_port());
    let data = disk.0.join("data");
    let flags = [
        ["--listen", address.as_str()],
        ["--data", data.to_str().expect("a path")],
        ["--isolation", "process"],
        ["--event-retry-ms", "50"],
        ["--event-throttled-ms", "100"],
        ["--event-backoff-ms", "20"],
        ["--event-backoff-max-ms", "500"],
        ["--log-store-mb", "4"],
    ];
    let mut server = Server::with(
        VIRGA,
        Options {
            flags: flags.concat().into_iter().map(str::to_owned).collect(),
            errors: true,
            data: Some(data),
            environment: clock.environment(),
            ..Options::default()
        },
    );
    clock.check(&server);
    let client = server.client();
    let recorder = Recorder::start();
    let promises = DeliveryLog::default();
    client.create("last", TELLS, json!({}));
    client.create(CALLED, TELLS, json!({}));
    for (name, _, out) in FUNCTIONS {
        let target = json!({"Type": "function", "Name": "last"});
        let more = if out == "dead" {
            json!({"DeadLetterConfig": target})
        } else {
            json!({})
        };
        client.create(name, TELLS, more);
    }
    let (next, stop) = (AtomicU64::new(1), AtomicBool::new(false));
    let mut filled = 0;
    let (mut moved, mut jumped) = (0, 0);
    let begun = Instant::now();
    let answered = thread::scope(|scope| {
        let caller = scope.spawn(|| call(&client, recorder.port(), &next, &stop));
        for _ in 0..SENDERS {
            scope.spawn(|| send(&client, recorder.port(), &next, &stop, &promises));
        }
        for _ in 0..kills {
            thread::sleep(Duration::from_millis(50 + dice.below(700)));
            if dice.below(3) == 0 {
                let filler = disk.fill();
                thread::sleep(Duration::from_millis(dice.below(300)));
                drop(filler);
                filled += 1;
            }
            if dice.below(2) == 0 {
                clock.set(dice.below(2 * JUMP as u64) as i64 - JUMP);
                jumped += 1;
                thread::sleep(Duration::from_millis(dice.below(100)));
            }
            server.kill();
            if dice.below(4) == 0 {
                move_clock(&server, 5 + dice.below(40));
                moved += 1;
            }
            server.restart();
        }
        stop.store(true, Ordering::Relaxed);
        caller.join().expect("it called")
    });
    eventually_long("nothing is left in the queue", || {
        client.queued() == Some(0.0)
    });
    eprintln!(
        "{kills} kills, {filled} full disks, {jumped} jumps of the clock, {moved} moves behind the stored time, seed {seed}, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    let mut kept = true;
    for (name, fails, out) in FUNCTIONS {
        let planned = if out == name { 1 + fails } else { 1 };
        let verdict = promises.check(name, &recorder.of(out), planned);
        eprintln!("{verdict}");
        kept &= verdict.is_at_least_once();
        assert!(verdict.acknowledged > 0, "nothing was sent");
    }
    assert!(kept, "an acknowledged event is lost");
    // The ledger is asked up to now: what ran when the clock was ahead may be in an hour that has not come.
    clock.set(JUMP);
    check_ledger(&server, &client, &recorder, answered);
}

/// Each event that ended and each call that was answered is counted once, and nothing that did not run.
fn check_ledger(server: &Server, client: &Client, recorder: &Recorder, answered: u64) {
    let output = server.cli(&["usage", "--json", "--days", "10000"]);
    let usage: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let sum = |name: &str, field: &str| -> u64 {
        let rows = usage.as_array().expect("a list").iter();
        let own = rows.filter(|row| row["FunctionName"] == name);
        own.filter_map(|row| row[field].as_u64()).sum()
    };
    let counted = sum(CALLED, "Invocations") - sum(CALLED, "Errors");
    let runs: u64 = recorder.of(CALLED).values().sum();
    eprintln!("{CALLED}: {answered} answered, {counted} in the ledger, {runs} runs were seen");
    assert!(answered > 0, "nothing was called");
    assert!(
        (answered..=runs).contains(&counted),
        "each answer is counted, and nothing that did not run"
    );
    for (name, fails, _) in FUNCTIONS {
        let status = if fails > 1 { "FAILED" } else { "FINISHED" };
        let request = json!({"FunctionName": name, "Status": [status], "Limit": 1});
        let ended = client.ok("ListAsyncEvents", &request)["TotalCount"]
            .as_u64()
            .expect("a number");
        let (ran, failed) = (sum(name, "Invocations"), sum(name, "Errors"));
        let runs: u64 = recorder.of(name).values().sum();
        eprintln!(
            "{name}: {ended} ended, {ran} in the ledger, {failed} of them failed, {runs} runs were seen"
        );
        if fails > 1 {
            // Three runs each, all of which fail.
            assert_eq!(ran, failed);
            assert_eq!(failed, 3 * ended, "{name}");
        } else {
            assert_eq!(ran - failed, ended, "{name}: each end is counted once");
        }
        assert!(ran <= runs, "{name}: nothing is counted that did not run");
    }
}

/// With a backlog of a full run this takes longer than other things do.
fn eventually_long(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(300) && !check() {
        thread::sleep(Duration::from_millis(50));
    }
    eventually(what, check);
}
