//! What the tests share: databases in files, and replicas on a log.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use replica::{Clock, Log, SubmitError};
use rusqlite::Connection;
use tempfile::TempDir;
use testlog::{Simulated, clock};

use crate::bank::{Bank, Change, Outcome};

pub(crate) type Node = testlog::Node<Bank>;

/// Starts a replica on a simulated log.
pub(crate) fn start_node(path: &Path, log: &Simulated) -> Node {
    start_node_with(path, log.clone(), clock())
}

pub(crate) fn start_node_with(path: &Path, log: impl Log, clock: impl Clock) -> Node {
    let connection = Connection::open(path).unwrap();
    Node::start(path, connection, Bank::default(), log, clock)
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Checks answers against the history: each answered change once, with the balance that the changes before it make.
pub(crate) fn check(
    run: &str,
    database: &Path,
    answered: &[(Change, Result<Outcome, SubmitError>)],
) {
    let connection = Connection::open(database).unwrap();
    let mut history = connection
        .prepare("SELECT id FROM history ORDER BY number")
        .unwrap();
    let ids: Vec<u64> = history
        .query_map([], |row| row.get::<_, i64>(0).map(|id| id as u64))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let changes: HashMap<u64, &Change> = answered
        .iter()
        .map(|(change, _)| (change.id, change))
        .collect();
    let mut balances = BTreeMap::new();
    let mut outcomes = HashMap::new();
    for id in ids {
        // A change that was not answered may stand, or not.
        let change = changes[&id];
        let balance: &mut i64 = balances.entry(change.account).or_default();
        let outcome = if *balance + change.amount < 0 {
            Outcome::Refused
        } else {
            *balance += change.amount;
            Outcome::Balance(*balance)
        };
        assert!(
            outcomes.insert(id, outcome).is_none(),
            "{run}: change {id} was applied twice"
        );
    }
    for (change, answer) in answered {
        match answer {
            Ok(outcome) => assert_eq!(outcomes.get(&change.id), Some(outcome), "{run}: {change:?}"),
            Err(SubmitError::Closed) => {}
            Err(other) => panic!("{run}: {change:?} was answered with {other}"),
        }
    }
}
