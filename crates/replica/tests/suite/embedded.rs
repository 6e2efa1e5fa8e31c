//! A machine whose database is its only record.

use std::sync::Arc;

use replica::{Database, Durability, Limits, Replica, Status, SubmitError, Time};
use rusqlite::Connection;
use testlog::dump;

use crate::bank::{Bank, Change, Outcome, deposit};
use crate::world::directory;

fn open(path: &std::path::Path) -> Database<Bank> {
    Database::open(Connection::open(path).unwrap(), Bank::default()).unwrap()
}

fn clock() -> Time {
    Time(7)
}

#[test]
fn commands_are_applied_in_the_order_of_their_submission() {
    let directory = directory();
    let path = directory.path().join("bank.sqlite");
    let (replica, thread) =
        Replica::embedded(open(&path), clock, Limits::default(), "bank").unwrap();
    let submitted: Vec<_> = (0..500)
        .map(|id| replica.submit(deposit(id, 0, 1)))
        .collect();
    for (id, submitted) in submitted.into_iter().enumerate() {
        assert_eq!(submitted.wait(), Ok(Outcome::Balance(id as i64 + 1)));
    }
    let refused = replica.submit_together(vec![
        deposit(500, 1, 5),
        deposit(501, 1, -9),
        deposit(502, 1, -5),
    ]);
    assert_eq!(
        refused.wait().unwrap(),
        [Outcome::Balance(5), Outcome::Refused, Outcome::Balance(0)]
    );
    drop(replica);
    let database = thread.join().unwrap();
    assert_eq!(database.machine().applied, 503);
    let contents = dump(database.connection());
    let position = database.position();
    drop(database);
    let again = open(&path);
    assert_eq!(dump(again.connection()), contents);
    assert_eq!(again.position(), position);
}

#[test]
fn what_waits_shares_a_commit() {
    let directory = directory();
    let database = open(&directory.path().join("bank.sqlite"));
    // The thread cannot begin while another connection writes, so that everything waits for the first commit.
    let other = Connection::open(directory.path().join("bank.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (replica, thread) = Replica::embedded(database, clock, Limits::default(), "bank").unwrap();
    let submitted: Vec<_> = (0..1000)
        .map(|id| replica.submit(deposit(id, 0, 1)))
        .collect();
    other.execute_batch("COMMIT").unwrap();
    for submitted in submitted {
        submitted.wait().unwrap();
    }
    drop(replica);
    let commits = thread.join().unwrap().position().0;
    assert!(commits <= 3, "{commits} commits for what waited for one");
}

#[test]
fn commands_that_nobody_waits_for_are_kept_when_the_last_handle_is_dropped() {
    let directory = directory();
    let path = directory.path().join("bank.sqlite");
    let (replica, thread) =
        Replica::embedded(open(&path), clock, Limits::default(), "bank").unwrap();
    for id in 0..10 {
        drop(replica.submit(Change {
            durability: Durability::Later,
            ..deposit(id, 0, 1)
        }));
    }
    drop(replica);
    assert_eq!(thread.join().unwrap().machine().applied, 10);
}

#[test]
fn a_full_disk_refuses_a_record_whole_and_later_ones_are_written() {
    let directory = directory();
    let path = directory.path().join("bank.sqlite");
    let database = open(&path);
    let pages: i64 = database
        .connection()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    // SQLite's own limit: the error and the roll-back are those of a full disk.
    database
        .connection()
        .pragma_update(None, "max_page_count", pages + 4)
        .unwrap();
    let (replica, thread) = Replica::embedded(database, clock, Limits::default(), "bank").unwrap();
    let large = Change {
        padding: 1 << 20,
        ..deposit(1, 0, 5)
    };
    let refused = replica
        .submit_together(vec![deposit(0, 0, 5), large])
        .wait();
    assert!(
        matches!(&refused, Err(SubmitError::Unavailable(reason)) if reason.contains("full")),
        "{refused:?}"
    );
    assert!(matches!(
        &*replica.status().borrow(),
        Status::Waiting { .. }
    ));
    assert_eq!(
        replica.submit(deposit(2, 0, 3)).wait(),
        Ok(Outcome::Balance(3))
    );
    assert!(matches!(
        &*replica.status().borrow(),
        Status::Following { .. }
    ));
    drop(replica);
    assert_eq!(thread.join().unwrap().machine().applied, 1);
}

#[test]
fn more_submissions_than_may_wait_are_refused() {
    let directory = directory();
    let database = open(&directory.path().join("bank.sqlite"));
    let other = Connection::open(directory.path().join("bank.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let limits = Limits {
        waiting: 10,
        ..Limits::default()
    };
    let (replica, thread) = Replica::embedded(database, clock, limits, "bank").unwrap();
    let submitted: Vec<_> = (0..15)
        .map(|id| replica.submit(deposit(id, 0, 1)))
        .collect();
    other.execute_batch("COMMIT").unwrap();
    let answers: Vec<_> = submitted
        .into_iter()
        .map(|submitted| submitted.wait())
        .collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert!(
        answers[10..]
            .iter()
            .all(|answer| *answer == Err(SubmitError::Busy(10)))
    );
    assert!(
        replica.submit(deposit(20, 0, 1)).wait().is_ok(),
        "their slots are free again"
    );
    drop(replica);
    drop(thread.join().unwrap());
}

#[test]
fn what_is_held_for_a_command_is_released_before_its_answer_and_not_before_it_is_applied() {
    let directory = directory();
    let database = open(&directory.path().join("bank.sqlite"));
    let other = Connection::open(directory.path().join("bank.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (replica, thread) = Replica::embedded(database, clock, Limits::default(), "bank").unwrap();
    let held = Arc::new(());
    drop(replica.submit_holding(deposit(0, 0, 1), held.clone()));
    let one = replica.submit_holding(deposit(1, 0, 1), held.clone());
    let two =
        replica.submit_together_holding(vec![deposit(2, 0, 1), deposit(3, 0, 1)], held.clone());
    assert_eq!(
        Arc::strong_count(&held),
        4,
        "nobody waits for the first one, and it is not applied yet"
    );
    other.execute_batch("COMMIT").unwrap();
    one.wait().unwrap();
    two.wait().unwrap();
    assert_eq!(Arc::strong_count(&held), 1);
    drop(replica);
    drop(thread.join().unwrap());
}

#[test]
fn a_number_is_never_drawn_twice() {
    let directory = directory();
    let path = directory.path().join("bank.sqlite");
    let mut expected = 0;
    for round in 0..3 {
        let (replica, thread) =
            Replica::embedded(open(&path), clock, Limits::default(), "bank").unwrap();
        for id in 0..5 {
            replica
                .submit(deposit(round * 10 + id, 0, 1))
                .wait()
                .unwrap();
        }
        expected += 5;
        drop(replica);
        let database = thread.join().unwrap();
        assert_eq!(database.last_number(), expected);
        // A row's removal does not give its number back.
        database
            .connection()
            .execute("DELETE FROM history", [])
            .unwrap();
    }
    let connection = Connection::open(&path).unwrap();
    replica::begin_at(&connection, Time(99), 100).unwrap();
    replica::begin_at(&connection, Time(3), 2).unwrap();
    let database = open(&path);
    assert_eq!((database.time(), database.last_number()), (Time(99), 100));
}
