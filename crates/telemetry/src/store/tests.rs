use model::RequestId;

use super::ids::{bound, first_id};
use super::*;
use crate::text;

/// A store of version 1. Never edit: it stands for files on users' disks.
const V1: &str = "
    CREATE TABLE function (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (account, namespace, name)
    );
    CREATE TABLE invocation (
        function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
        status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL,
        PRIMARY KEY (function, request)
    ) WITHOUT ROWID;
    INSERT INTO function VALUES (1, 1, 'default', 'fun');
    INSERT INTO invocation VALUES (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four');
    PRAGMA user_version = 1;
";

#[test]
fn oversized_store_evicts_the_oldest_regardless_of_clock_jumps() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs.sqlite");
    let settings = LogStoreSettings {
        retention: Duration::from_secs(3600),
        max_bytes: 1 << 20,
    };
    let store = LogStore::open(&path, settings).expect("a store");
    let now = clock::now_ms();
    let records = |from: u16| -> Vec<Record> {
        let record = |n: u16| {
            let mut id = bound(now, 0);
            id[6..8].copy_from_slice(&n.to_be_bytes());
            Record {
                request: RequestId::from_bytes(id),
                // Alternates between a clock one year behind and one year ahead.
                started: now + [-1, 1][n as usize % 2] * 365 * 86_400_000,
                log: vec![b'x'; 4000].into(),
                ..text::tests::record()
            }
        };
        (from..from + 100).map(record).collect()
    };
    for batch in 0..20 {
        store.write(&records(batch * 100)).expect("written");
        store.clean().expect("cleaned");
    }
    let connection = Connection::open(&path).expect("a file");
    let count = |condition: &str| -> i64 {
        let query = format!("SELECT COUNT(*) FROM invocation WHERE {condition}");
        let count = connection.query_row(&query, [], |row| row.get(0));
        count.expect("counted")
    };
    let last = first_id(now);
    let youngest = format!(
        "request >= x'{}'",
        hex(&[&last[..6], &[0x07, 0x6c]].concat())
    );
    assert_eq!(count(&youngest), 100, "the newest hundred rows are kept");
    assert!((100..300).contains(&count("1")), "{}", count("1"));
    drop((store, connection));
    let bytes = std::fs::metadata(&path).expect("a file").len();
    assert!(bytes <= settings.max_bytes, "{bytes} bytes");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn version_1_store_is_migrated() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs.sqlite");
    let old = Connection::open(&path).expect("a file");
    old.execute_batch(V1).expect("made");
    drop(old);
    let settings = LogStoreSettings {
        retention: Duration::from_secs(1),
        max_bytes: 1 << 20,
    };
    for _ in 0..2 {
        let store = LogStore::open(&path, settings).expect("a store");
        let query = LogQuery {
            account: AccountId(1),
            namespace: Namespace::default(),
            functions: None,
            version: None,
            request: None,
            from: 0,
            to: 10,
            outcomes: OutcomeFilter::All,
            order_by: SortKey::StartTime,
            order: SortOrder::Ascending,
            offset: 0,
            limit: 10,
        };
        let found = store.search(&query).expect("found");
        assert_eq!((found.total, found.rows[0].log.as_str()), (1, "four"));
        assert_eq!(found.rows[0].retry, 0);
    }
}

/// A store of version 2 with rows of two accounts. Never edit, either.
const V2: &str = "
    CREATE TABLE function (
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
        UNIQUE (account, namespace, name)
    );
    CREATE TABLE invocation (
        function INTEGER NOT NULL, request BLOB NOT NULL, started INTEGER NOT NULL, version TEXT NOT NULL,
        status INTEGER NOT NULL, duration_us INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL, answer TEXT NOT NULL, log TEXT NOT NULL, retry INTEGER NOT NULL,
        PRIMARY KEY (function, request, retry)
    ) WITHOUT ROWID;
    INSERT INTO function VALUES (1, 7, 'default', 'a'), (2, 7, 'default', 'b'), (3, 8, 'default', 'a');
    INSERT INTO invocation VALUES
        (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four', 0),
        (1, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', 'four', 1),
        (2, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '', 'é', 0),
        (3, zeroblob(16), 5, '$LATEST', 200, 1000, 1, 2, '3', hex(zeroblob(2500)), 0);
    PRAGMA user_version = 2;
";

#[test]
fn version_2_store_is_recounted_also_after_a_downgrade() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs.sqlite");
    let old = Connection::open(&path).expect("a file");
    old.execute_batch(V2).expect("made");
    let settings = LogStoreSettings {
        retention: Duration::from_secs(1),
        max_bytes: 1 << 20,
    };
    let counted = || {
        let store = LogStore::open(&path, settings).expect("a store");
        let writer = store.writer();
        let bytes = |account: i64| -> i64 {
            let query = "SELECT bytes FROM account_bytes WHERE account = ?";
            let bytes = writer
                .connection
                .query_row(query, [account], |row| row.get(0));
            bytes.expect("counted")
        };
        (bytes(7), bytes(8))
    };
    let long = 1002 + 4096;
    assert_eq!(counted(), (3 * 64 + 12, long));
    old.execute_batch(
        "INSERT INTO invocation VALUES (3, zeroblob(16), 5, '$LATEST', 200, 1, 1, 2, '', 'six', 1);
         PRAGMA user_version = 2;",
    )
    .expect("written by version 2");
    assert_eq!(counted(), (3 * 64 + 12, long + 64 + 3));
}
