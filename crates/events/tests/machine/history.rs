//! Random histories of every command, applied more than once.

use std::process::Command;

use events::EventState;
use events::machine::{EventCommand, EventMachine, EventOutput, Totals, connect};
use replica::{Database, Machine, Time};
use rusqlite::Connection;
use seeded::Random;
use testlog::dump;

use crate::model::{EventRow, LedgerRow, Model};
use crate::random;

const HISTORIES: u64 = 10_000;
/// Histories that another process applies, too.
const IN_ANOTHER_PROCESS: u64 = 500;
/// Set to a seed to run its history alone.
const SEED: &str = "VIRGA_EVENTS_SEED";
/// Set for the other process.
const OTHER: &str = "VIRGA_EVENTS_OTHER_PROCESS";

/// A record: its time and its commands.
type Records = Vec<(u64, Vec<EventCommand>)>;

pub(crate) fn machine() -> EventMachine {
    EventMachine::new(Totals::new(1 << 30, 1 << 20))
}

fn database() -> Database<EventMachine> {
    Database::open(Connection::open_in_memory().unwrap(), machine()).unwrap()
}

/// Makes a history, and returns it with the outputs that the model gives.
fn history(seed: u64) -> (Records, Vec<Vec<EventOutput>>, Model) {
    let mut random = Random::new(seed);
    let (mut model, mut records, mut outputs) = (Model::default(), Vec::new(), Vec::new());
    let mut now = 1000;
    for _ in 0..10 + random.below(10) {
        now += random.below(1000);
        let mut commands = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + random.below(4) {
            let command = random::command(&mut random, &model, now);
            expected.push(model.apply(now, &command));
            commands.push(command);
        }
        records.push((now, commands));
        outputs.push(expected);
    }
    (records, outputs, model)
}

fn apply(database: &mut Database<EventMachine>, records: &Records) -> Vec<Vec<EventOutput>> {
    let apply = |(now, commands): &(u64, Vec<EventCommand>)| {
        database.apply_alone(Time(*now), commands, false).unwrap()
    };
    records.iter().map(apply).collect()
}

/// Returns the commands as another node reads them.
fn transferred(records: &Records) -> Records {
    let read = |command: &EventCommand| {
        let mut bytes = Vec::new();
        EventMachine::encode(command, &mut bytes);
        let read = EventMachine::decode(&bytes).unwrap();
        assert_eq!(read, *command);
        read
    };
    let records = records.iter();
    records
        .map(|(now, commands)| (*now, commands.iter().map(read).collect()))
        .collect()
}

#[test]
fn histories_give_what_the_model_says_and_the_same_tables_each_time() {
    let one = std::env::var(SEED).ok().map(|seed| seed.parse().unwrap());
    for seed in one.map_or(0..HISTORIES, |seed| seed..seed + 1) {
        let (records, expected, model) = history(seed);
        let (mut first, mut second) = (database(), database());
        let outputs = apply(&mut first, &records);
        assert_eq!(outputs, expected, "seed {seed}: {records:#?}");
        let transferred = transferred(&records);
        assert_eq!(apply(&mut second, &transferred), outputs, "seed {seed}");
        let (first, second) = (first.connection(), second.connection());
        assert!(dump(first) == dump(second), "seed {seed}: tables differ");
        assert_eq!(ledger(first), model.ledger(), "seed {seed}");
        assert_eq!(events(first), model.events(), "seed {seed}");
    }
}

pub(crate) fn ledger(connection: &Connection) -> Vec<LedgerRow> {
    let mut rows = connection
        .prepare(
            "SELECT key, version, hour, invocations, billed_ms FROM usage JOIN queue ON queue.id = usage.function
             ORDER BY key, version, hour",
        )
        .unwrap();
    let rows = rows.query_map([], |row| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
        ))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn events(connection: &Connection) -> Vec<EventRow> {
    let mut rows = connection
        .prepare(
            "SELECT request, key, state, attempt, due FROM event JOIN queue ON queue.id = event.function ORDER BY request",
        )
        .unwrap();
    let rows = rows.query_map([], |row| {
        let number: i64 = row.get(2)?;
        let names = [
            (0, EventState::Waiting),
            (1, EventState::Undelivered),
            (2, EventState::Dead),
            (10, EventState::Finished),
            (11, EventState::Failed),
            (12, EventState::Aborted),
        ];
        let state = names
            .iter()
            .find(|(stored, _)| *stored == number)
            .unwrap()
            .1;
        let next = (number <= 1).then_some((row.get(3)?, row.get(4)?));
        Ok((row.get(0)?, row.get(1)?, state.as_str().to_owned(), next))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[test]
fn another_process_makes_the_same_tables() {
    let mine: String = (0..IN_ANOTHER_PROCESS).map(contents).collect();
    let directory = tempfile::tempdir().unwrap();
    let theirs = directory.path().join("contents");
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "history::contents_for_another_process"])
        .env(OTHER, &theirs)
        .status();
    assert!(status.unwrap().success());
    assert!(std::fs::read_to_string(theirs).unwrap() == mine);
}

#[test]
fn contents_for_another_process() {
    if let Some(path) = std::env::var_os(OTHER) {
        let contents: String = (0..IN_ANOTHER_PROCESS).map(contents).collect();
        std::fs::write(path, contents).unwrap();
    }
}

/// Returns the tables that a history makes, as text.
fn contents(seed: u64) -> String {
    let mut database = database();
    let outputs = apply(&mut database, &history(seed).0);
    format!("{outputs:?} {:?}\n", dump(database.connection()))
}

#[test]
fn reopening_between_records_makes_no_difference() {
    for seed in 0..50 {
        let (records, expected, _) = history(seed);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.sqlite");
        let open = || Database::open(connect(&path).unwrap(), machine()).unwrap();
        for (record, expected) in records.iter().zip(expected) {
            let outputs = open()
                .apply_alone(Time(record.0), &record.1, false)
                .unwrap();
            assert_eq!(outputs, expected, "seed {seed}");
        }
        let mut whole = database();
        apply(&mut whole, &records);
        let reopened = open();
        assert!(
            dump(reopened.connection()) == dump(whole.connection()),
            "seed {seed}"
        );
    }
}

#[test]
fn every_cut_of_a_command_is_refused_and_so_is_what_follows_it() {
    for seed in 0..200 {
        for command in history(seed).0.into_iter().flat_map(|record| record.1) {
            let mut bytes = Vec::new();
            EventMachine::encode(&command, &mut bytes);
            for length in 0..bytes.len() {
                assert!(
                    EventMachine::decode(&bytes[..length]).is_err(),
                    "{command:?}"
                );
            }
            bytes.push(0);
            assert!(EventMachine::decode(&bytes).is_err(), "{command:?}");
        }
    }
    let later = EventMachine::decode(&[2, 1]).unwrap_err();
    assert!(later.contains("format 2"), "{later}");
    let unknown = EventMachine::decode(&[1, 99]).unwrap_err();
    assert!(unknown.contains("kind 99"), "{unknown}");
}

#[test]
fn strange_bytes_are_refused_or_a_command() {
    let mut random = Random::new(7);
    for seed in 0..2000 {
        let records = history(seed % 100).0;
        let (_, commands) = &records[random.index(records.len())];
        let mut bytes = Vec::new();
        EventMachine::encode(&commands[random.index(commands.len())], &mut bytes);
        let bytes = random.mutated(&bytes);
        if let Ok(command) = EventMachine::decode(&bytes) {
            let mut again = Vec::new();
            EventMachine::encode(&command, &mut again);
            assert_eq!(EventMachine::decode(&again).unwrap(), command);
        }
    }
}
