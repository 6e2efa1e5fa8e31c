//! A log that is full, lost, of another installation, or that has something this version cannot read.

use std::time::Duration;

use bytes::Bytes;
use replica::{Header, Log, MAX_RECORD, Record, Status, SubmitError, Time, WriterId};
use testlog::{Faults, Simulated, paused};

use crate::bank::{Change, Outcome, deposit};
use crate::world::{Node, directory, start_node};

#[test]
fn a_full_log_refuses_commands_which_are_then_certainly_not_applied() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&directory.path().join("a"), &log);
        node.replica.submit(deposit(1, 0, 5)).await.unwrap();
        log.set_capacity(0);
        let refused = node.replica.submit(deposit(2, 0, 5)).await;
        assert!(
            matches!(&refused, Err(SubmitError::Full(reason)) if reason.contains("maximum bytes"))
        );
        log.set_capacity(usize::MAX);
        assert_eq!(
            node.replica.submit(deposit(3, 0, 1)).await,
            Ok(Outcome::Balance(6))
        );
        assert_eq!(node.close().await.machine().applied, 2);
    });
}

#[test]
fn a_log_that_is_nearly_full_takes_what_ends_work_until_it_is_trimmed() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&directory.path().join("a"), &log);
        log.set_capacity(1_000_000);
        let padded = |id| Change {
            padding: 100_000,
            ..deposit(id, 0, 5)
        };
        let mut accepted = 0;
        while node.replica.submit(padded(accepted)).await.is_ok() {
            accepted += 1;
            // More than the interval in which the log is asked.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        assert_eq!(accepted, 7, "work is taken up to 70 %");
        assert!(node.replica.is_low());
        let refused = node.replica.submit(padded(100)).await;
        assert!(matches!(refused, Err(SubmitError::Full(_))), "{refused:?}");
        let ended = node.replica.submit(deposit(101, 0, -5)).await;
        assert_eq!(ended, Ok(Outcome::Balance(30)));

        log.trim(log.latest().await.unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(
            node.replica.submit(padded(102)).await,
            Ok(Outcome::Balance(35))
        );
    });
}

#[test]
fn a_command_that_no_record_can_hold_is_refused_at_once() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&directory.path().join("a"), &log);
        let too_large = Change {
            padding: MAX_RECORD,
            ..deposit(1, 0, 5)
        };
        let refused = node.replica.submit(too_large).await;
        assert!(
            matches!(&refused, Err(SubmitError::Unavailable(reason)) if reason.contains("a record has"))
        );
        assert_eq!(log.length(), 0);
        assert_eq!(
            node.replica.submit(deposit(2, 0, 1)).await,
            Ok(Outcome::Balance(1))
        );
    });
}

#[test]
fn many_large_commands_make_several_records_none_too_large() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&directory.path().join("a"), &log);
        let submitted: Vec<_> = (0..40)
            .map(|id| {
                node.replica.submit(Change {
                    padding: MAX_RECORD / 4,
                    ..deposit(id, 0, 1)
                })
            })
            .collect();
        for submitted in submitted {
            submitted.await.unwrap();
        }
        let length = log.length();
        assert!((10..=20).contains(&length), "{length} records");
        let mut entries = log.follow(replica::Position(0)).await.unwrap();
        for _ in 0..length {
            let entry = futures_util::StreamExt::next(&mut entries)
                .await
                .unwrap()
                .unwrap();
            assert!(entry.record.len() <= MAX_RECORD);
        }
    });
}

#[test]
fn a_log_that_lost_records_is_not_followed() {
    stops("has lost records", |log| log.lose_last(1));
}

#[test]
fn a_log_that_was_made_anew_is_not_followed() {
    stops("made anew", Simulated::replace);
}

/// A replica that starts on the log after `damage` stops with a reason, and refuses commands with it.
fn stops(expected: &str, damage: impl Fn(&Simulated)) {
    paused(async {
        let directory = directory();
        let path = directory.path().join("a");
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&path, &log);
        for id in 0..3 {
            node.replica.submit(deposit(id, 0, 5)).await.unwrap();
        }
        drop(node.close().await);
        damage(&log);
        refuses(&start_node(&path, &log), expected).await;
    });
}

async fn refuses(node: &Node, expected: &str) {
    let mut status = node.replica.status();
    let stopped = status.wait_for(|status| matches!(status, Status::Stopped { .. }));
    let stopped = stopped.await.unwrap().clone();
    assert!(
        matches!(&stopped, Status::Stopped { reason } if reason.contains(expected)),
        "{stopped:?}"
    );
    let refused = node.replica.submit(deposit(9, 0, 5)).await;
    assert!(
        matches!(&refused, Err(SubmitError::Stopped(reason)) if reason.contains(expected)),
        "{refused:?}"
    );
}

#[test]
fn a_record_that_cannot_be_read_stops_the_replica_instead_of_being_skipped() {
    paused(async {
        let directory = directory();
        let header = Header {
            writer: WriterId([1; 16]),
            number: 1,
            base: 1,
            time: Time(1),
        };
        let unreadable = [
            (Bytes::from_static(&[77]), "format 77"),
            (Record::encode(&header, &[vec![1, 2]]), "too short"),
        ];
        for (index, (record, expected)) in unreadable.into_iter().enumerate() {
            let log = Simulated::new(1, Faults::NONE);
            log.append(record).await.unwrap();
            refuses(
                &start_node(&directory.path().join(index.to_string()), &log),
                expected,
            )
            .await;
        }
    });
}

#[test]
fn the_time_of_a_log_never_goes_back_and_is_not_ahead_of_the_log() {
    paused(async {
        let directory = directory();
        let path = directory.path().join("a");
        let log = Simulated::new(1, Faults::NONE);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let command = |id| {
            let mut bytes = Vec::new();
            <crate::bank::Bank as replica::Machine>::encode(&deposit(id, 0, 1), &mut bytes);
            bytes
        };
        // A clock that is years ahead, one that stands at its beginning, and a right one.
        for (number, time) in [(1, u64::MAX), (2, 0), (3, 9_000_000)] {
            let header = Header {
                writer: WriterId([1; 16]),
                number,
                base: number,
                time: Time(time),
            };
            log.append(Record::encode(&header, &[command(number)]))
                .await
                .unwrap();
        }
        let node = start_node(&path, &log);
        node.replica.barrier().await.unwrap();
        let database = node.close().await;
        let mut times = database
            .connection()
            .prepare("SELECT time FROM history ORDER BY number")
            .unwrap();
        let times: Vec<i64> = times
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(times.len(), 3);
        assert!(times.is_sorted(), "{times:?}");
        assert!(times[2] < 20_000_000, "{times:?}");
    });
}
