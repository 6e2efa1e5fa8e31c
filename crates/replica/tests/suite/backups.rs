//! Backups of several replicas: incremental, encrypted, verified, restored, and moved between an embedded database and a log.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use replica::backup::{BackupError, Backups, Source};
use replica::snapshot::{Snapshots, Start};
use replica::{
    Blobs, Control, Database, Header, Limits, Log, ObjectBlobs, Record, Replica, Time, Vault,
    WriterId, digest,
};
use rusqlite::Connection;
use seal::{Key, Seals};
use tempfile::TempDir;
use testlog::{Faults, Simulated, clock, paused};

use crate::bank::{Bank, Change, Outcome, deposit};
use crate::world::{directory, start_node};

fn keys() -> Option<Arc<Seals>> {
    let key = Key {
        id: "key".to_owned(),
        bytes: [7; 32],
    };
    Some(Arc::new(Seals::new(key, [])))
}

/// A place for backups.
struct Place {
    directory: TempDir,
    blobs: Arc<ObjectBlobs>,
    backups: Backups,
}

impl Place {
    fn new(keys: Option<Arc<Seals>>) -> Self {
        let directory = directory();
        let blobs = Arc::new(ObjectBlobs::directory(&directory.path().join("blobs")).unwrap());
        let backups = Backups::new(Vault::new(blobs.clone(), keys));
        Self {
            directory,
            blobs,
            backups,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn make(&self, sources: &[(&str, &dyn Source)], begun: u64) -> String {
        let work = self.path("work");
        let made = self.backups.make(sources, Time(begun), &work).await;
        assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0);
        made.unwrap().name
    }

    async fn parts(&self) -> Vec<String> {
        self.blobs.list("parts/").await.unwrap()
    }
}

type Thread = std::thread::JoinHandle<Database<Bank>>;

fn embedded(path: &Path) -> (Replica<Bank>, Thread) {
    let database = Database::open(Connection::open(path).unwrap(), Bank::default());
    Replica::embedded(database.unwrap(), clock(), Limits::default(), "bank").unwrap()
}

fn padded(id: u64) -> Change {
    Change {
        padding: 100_000,
        ..deposit(id, 0, 1)
    }
}

/// Returns the ids of the changes that a database has at least so often.
fn ids(path: &Path, times: usize) -> HashSet<i64> {
    let connection = Connection::open(path).unwrap();
    let mut ids = connection
        .prepare("SELECT id FROM history GROUP BY id HAVING count(*) >= ?")
        .unwrap();
    let ids = ids.query_map([times as i64], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

fn balance(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    let balance = connection.query_row("SELECT value FROM balance", [], |row| row.get(0));
    balance.unwrap()
}

#[tokio::test]
async fn a_backup_of_two_replicas_is_made_while_they_are_written_and_restored() {
    let place = Place::new(keys());
    let (one, first) = embedded(&place.path("one"));
    let (two, second) = embedded(&place.path("two"));
    // Every change of the first goes on to the second, and is removed there only when no backup is open.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (a, b) = (one.clone(), two.clone());
    let writer = tokio::spawn(async move {
        let mut id = 0;
        while !*stopped.borrow() {
            id += 1;
            a.submit(deposit(id, 0, 1)).await.unwrap();
            b.submit(deposit(id, 0, 1)).await.unwrap();
            while a.backup_is_open(Time(1)) {
                tokio::task::yield_now().await;
            }
            a.submit(deposit(id, 0, -1)).await.unwrap();
        }
        id
    });
    let mut names = Vec::new();
    for begun in 1..=10 {
        let sources: [(&str, &dyn Source); 2] = [("two", &two), ("one", &one)];
        names.push(place.make(&sources, begun).await);
        assert!(!one.backup_is_open(Time(1)));
    }
    stop.send(true).unwrap();
    assert!(writer.await.unwrap() > 0);
    drop((one, two));
    drop((first.join().unwrap(), second.join().unwrap()));
    for (index, name) in names.iter().enumerate() {
        let backup = place.backups.get(Some(name)).await.unwrap();
        place
            .backups
            .verify(&backup, &place.path("work"))
            .await
            .unwrap();
        let target = |replica: &str| place.path(&format!("{index}-{replica}"));
        place.backups.restore(&backup, target).await.unwrap();
        let (removed, told) = (ids(&target("one"), 2), ids(&target("two"), 1));
        assert!(
            removed.is_subset(&told),
            "everything removed from one is in the other"
        );
        let again = place.backups.restore(&backup, target).await;
        assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
    }
    // A restored database goes on.
    let (restored, thread) = embedded(&place.path("9-two"));
    let before = balance(&place.path("9-two"));
    let after = restored.submit(deposit(1 << 40, 0, 1)).await;
    assert_eq!(after, Ok(Outcome::Balance(before + 1)));
    drop(restored);
    drop(thread.join().unwrap());
    for blob in place.parts().await {
        let bytes = place.blobs.get(&blob).await.unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"SQLite"));
    }
}

#[tokio::test]
async fn a_backup_stores_what_has_changed_and_pruning_leaves_what_is_used() {
    for keys in [None, keys()] {
        let place = Place::new(keys);
        let (replica, thread) = embedded(&place.path("bank"));
        for id in 0..50 {
            replica.submit(padded(id)).await.unwrap();
        }
        let sources: [(&str, &dyn Source); 1] = [("bank", &replica)];
        let first = place.make(&sources, 1).await;
        let all = place.parts().await.len();
        assert!(all >= 15, "{all}");
        replica.submit(deposit(100, 0, 1)).await.unwrap();
        let second = place.make(&sources, 2).await;
        let more = place.parts().await.len() - all;
        assert!(
            (1..=6).contains(&more),
            "{more} of {all} parts for one change"
        );
        assert_eq!(
            place.backups.list().await.unwrap(),
            [first.as_str(), &second]
        );

        place.backups.prune(1).await.unwrap();
        assert_eq!(place.backups.list().await.unwrap(), [second.as_str()]);
        assert!(place.parts().await.len() <= all + 1);
        let last = place.backups.get(None).await.unwrap();
        assert_eq!(last.name, second);
        place
            .backups
            .verify(&last, &place.path("work"))
            .await
            .unwrap();
        let missing = place.backups.get(Some(&first)).await;
        assert!(
            matches!(missing, Err(BackupError::Missing(Some(_)))),
            "{missing:?}"
        );
        drop(replica);
        drop(thread.join().unwrap());
    }
}

#[tokio::test]
async fn damage_and_a_wrong_key_are_found_and_nothing_is_restored() {
    for keys in [None, keys()] {
        let place = Place::new(keys);
        let (replica, thread) = embedded(&place.path("bank"));
        replica.submit(padded(1)).await.unwrap();
        let sources: [(&str, &dyn Source); 1] = [("bank", &replica)];
        place.make(&sources, 1).await;
        let backup = place.backups.get(None).await.unwrap();
        let target = |replica: &str| place.path(&format!("restored-{replica}"));
        let parts = place.parts().await;
        for (index, name) in parts.iter().enumerate() {
            let whole = place.blobs.get(name).await.unwrap();
            let mut flipped = whole.to_vec();
            flipped[whole.len() / 2] ^= 1;
            let other = place
                .blobs
                .get(&parts[(index + 1) % parts.len()])
                .await
                .unwrap();
            let damages = [Some(flipped), Some(whole[..whole.len() - 1].to_vec()), None];
            let swapped = (parts.len() > 1).then(|| Some(other.to_vec()));
            for damage in damages.into_iter().chain(swapped) {
                match damage {
                    Some(bytes) => place.blobs.put(name, bytes.into()).await.unwrap(),
                    None => place.blobs.delete(name).await.unwrap(),
                }
                let work = place.path("work");
                assert!(
                    place.backups.verify(&backup, &work).await.is_err(),
                    "{name}"
                );
                assert!(
                    place.backups.restore(&backup, target).await.is_err(),
                    "{name}"
                );
                assert!(!target("bank").exists());
                place.blobs.put(name, whole.clone()).await.unwrap();
            }
        }
        let other = Key {
            id: "other".to_owned(),
            bytes: [8; 32],
        };
        let wrong = Vault::new(place.blobs.clone(), Some(Arc::new(Seals::new(other, []))));
        assert!(Backups::new(wrong).get(None).await.is_err());
        place.backups.restore(&backup, target).await.unwrap();
        drop(replica);
        drop(thread.join().unwrap());
    }
}

#[tokio::test]
async fn a_backup_that_names_files_elsewhere_is_refused() {
    let place = Place::new(None);
    let (replica, thread) = embedded(&place.path("bank"));
    replica.submit(deposit(1, 0, 1)).await.unwrap();
    let sources: [(&str, &dyn Source); 1] = [("bank", &replica)];
    let name = place.make(&sources, 1).await;
    let mut backup = place.backups.get(None).await.unwrap();
    for named in ["../bank", "/bank", "a/b", "", "a\0b"] {
        backup.databases[0].replica = named.to_owned();
        let vault = Vault::new(place.blobs.clone(), None);
        let stored = format!("backups/{name}");
        vault.put_json(&stored, &backup).await.unwrap();
        let refused = place.backups.get(None).await;
        assert!(matches!(refused, Err(BackupError::Name(_))), "{refused:?}");
        let sources: [(&str, &dyn Source); 1] = [(named, &replica)];
        let work = place.path("work");
        let refused = place.backups.make(&sources, Time(2), &work).await;
        assert!(matches!(refused, Err(BackupError::Name(_))), "{refused:?}");
    }
    drop(replica);
    drop(thread.join().unwrap());
}

#[tokio::test]
async fn a_mark_that_was_not_ended_is_kept_over_a_restart_and_ends_by_itself() {
    let directory = directory();
    let path = directory.path().join("bank");
    let (replica, thread) = embedded(&path);
    replica.mark("gone", true).await.unwrap();
    assert!(replica.backup_is_open(Time(1)));
    drop(replica);
    drop(thread.join().unwrap());
    let (replica, thread) = embedded(&path);
    assert!(replica.backup_is_open(Time(1)));
    let later = std::time::Duration::from_mins(11).as_micros() as u64;
    assert!(!replica.backup_is_open(Time(later)));
    replica.mark("other", true).await.unwrap();
    replica.mark("other", false).await.unwrap();
    assert!(replica.backup_is_open(Time(1)), "the first is still open");
    replica.mark("gone", false).await.unwrap();
    assert!(!replica.backup_is_open(Time(1)));
    drop(replica);
    drop(thread.join().unwrap());
}

#[test]
fn a_mark_that_comes_again_late_opens_nothing() {
    paused(async {
        let directory = directory();
        let log = Simulated::new(1, Faults::NONE);
        let node = start_node(&directory.path().join("a"), &log);
        for (number, open) in [(1, true), (2, false), (1, true)] {
            let header = Header {
                writer: WriterId([1; 16]),
                number,
                base: 1,
                time: Time(1),
            };
            let id = "one".to_owned();
            let record = Record::encode_control(&header, &Control::Backup { id, open });
            log.append(record).await.unwrap();
            node.replica.barrier().await.unwrap();
            assert_eq!(
                node.replica.backup_is_open(Time(1)),
                number == 1 && log.length() < 3
            );
        }
    });
}

#[test]
fn an_installation_moves_from_an_embedded_database_to_a_log_and_back() {
    paused(async {
        let place = Place::new(keys());
        let (replica, thread) = embedded(&place.path("bank"));
        for id in 0..20 {
            replica.submit(deposit(id, 0, 1)).await.unwrap();
        }
        let sources: [(&str, &dyn Source); 1] = [("bank", &replica)];
        place.make(&sources, 1).await;
        drop(replica);
        drop(thread.join().unwrap());

        let backup = place.backups.get(None).await.unwrap();
        let moved = place.path("moved");
        place
            .backups
            .restore(&backup, |_| moved.clone())
            .await
            .unwrap();
        let log = Simulated::new(3, Faults::MANY);
        let snapshots = Snapshots::new::<Bank>(Vault::new(place.blobs.clone(), keys()), "bank");
        let copy = place.path("copy");
        snapshots.found(&moved, &log, &copy).await.unwrap();
        assert!(!copy.exists());
        // One that starts without looking for a snapshot does not go on from nothing.
        let unprepared = start_node(&place.path("unprepared"), &log);
        assert!(unprepared.stopped().await.contains("snapshot"));
        let header = Header {
            writer: WriterId([1; 16]),
            number: 1,
            base: 1,
            time: Time(1),
        };
        let begun = Simulated::new(4, Faults::NONE);
        let founded = Record::encode_control(&header, &Control::Founded);
        begun.append(founded).await.unwrap();
        let early = start_node(&place.path("early"), &begun);
        assert!(early.stopped().await.contains("restored into it"));

        let mut nodes = Vec::new();
        for name in ["a", "b"] {
            let start = snapshots.prepare(&place.path(name), &log).await.unwrap();
            assert!(matches!(start, Start::Snapshot(_)), "{start:?}");
            nodes.push(start_node(&place.path(name), &log));
        }
        let paid = nodes[0].replica.submit(deposit(100, 0, 1)).await;
        assert_eq!(paid, Ok(Outcome::Balance(21)));
        let refused = snapshots.found(&moved, &log, &copy).await;
        assert!(refused.unwrap_err().to_string().contains("has records"));

        let sources: [(&str, &dyn Source); 1] = [("bank", &nodes[1].replica)];
        place.make(&sources, 2).await;
        let backup = place.backups.get(None).await.unwrap();
        assert!(backup.databases[0].log.is_some());
        let back = place.path("back");
        place
            .backups
            .restore(&backup, |_| back.clone())
            .await
            .unwrap();
        let connection = Connection::open(&back).unwrap();
        assert_eq!(digest(&connection).unwrap(), backup.databases[0].digest);
        drop(connection);
        let (replica, thread) = embedded(&back);
        let paid = replica.submit(deposit(101, 0, 1)).await;
        assert_eq!(paid, Ok(Outcome::Balance(22)));
        drop(replica);
        drop(thread.join().unwrap());
    });
}
