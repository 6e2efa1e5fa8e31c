//! A data directory that an earlier release wrote is opened, migrated, and fully usable.
//!
//! `tests/data/make.py` wrote the directory with the release before the stored names changed.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Client, Options, Server, eventually};

use crate::VIRGA;

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/bade843.tar.gz");
const BUCKET: &str = "/photos-1250000000";

/// Unpacks the directory and makes its events young, so that none of them has expired.
fn unpack() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut tar = Command::new("tar");
    tar.args(["-xzf", ARCHIVE, "-C"]).arg(directory.path());
    assert!(tar.status().expect("tar").success());
    let events = open(directory.path(), "events.sqlite");
    let wrote: i64 = events
        .query_row("SELECT time FROM reached", [], |row| row.get(0))
        .expect("a time");
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("a time")
        .as_micros() as i64;
    let age = (now - wrote).max(0);
    events
        .execute_batch(&format!(
            "UPDATE event SET accepted = accepted + {age}, due = due + {age}, ended = ended + {age};
             UPDATE reached SET time = time + {age};"
        ))
        .expect("new times");
    directory
}

fn open(data: &Path, store: &str) -> Connection {
    Connection::open(data.join(store)).expect("a store")
}

fn strings(store: &Connection, sql: &str) -> Vec<String> {
    let mut query = store.prepare(sql).expect("SQL");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("text")
}

fn cli(server: &Server, arguments: &[&str]) -> Value {
    let output = server.cli(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().expect("a list");
    let texts = list.iter().map(|one| one[field].as_str().expect("text"));
    texts.map(str::to_owned).collect()
}

fn invoke(client: &Client, name: &str, qualifier: &str) -> Value {
    let request = json!({"FunctionName": name, "Qualifier": qualifier, "ClientContext": "{}"});
    let result = client.ok("Invoke", &request)["Result"].take();
    assert_eq!(result["InvokeResult"], 0, "{result}");
    serde_json::from_str(result["RetMsg"].as_str().expect("text")).expect("JSON")
}

fn second(server: &Server, data: &Path) -> Client {
    let pair = std::fs::read(data.join("second.json")).expect("a key");
    let pair: Value = serde_json::from_slice(&pair).expect("JSON");
    let part = |name: &str| pair[name].as_str().expect("text");
    server
        .client()
        .with_key(part("secret_id"), part("secret_key"))
}

#[test]
fn data_directory_of_an_earlier_release_is_migrated_and_usable() {
    let directory = unpack();
    let data = directory.path();
    let flags = [
        "--log-retention-days",
        "36500",
        "--usage-retention-days",
        "36500",
        "--dead-letter-endpoints",
        "http://127.0.0.1:9",
        "--event-retry-ms",
        "1000",
        // The quotas of accounts are shown as they are set, not capped by the memory of this machine.
        "--node-memory-mb",
        "65536",
    ];
    let mut server = Server::with(
        VIRGA,
        Options {
            flags: flags.map(str::to_owned).to_vec(),
            data: Some(data.to_owned()),
            ..Options::default()
        },
    );
    server.expect("failed to deliver dead letters");
    check_events(&mut server);
    // The second round is after a restart: a migrated directory is opened like any other.
    for round in 0..2 {
        check_functions(&server.client(), round);
        check_accounts(&server, data);
        check_objects(&server, round);
        server.terminate();
        check_stored_names(data);
        server.restart();
    }
}

fn check_functions(client: &Client, round: u64) {
    let logs = client.ok("GetFunctionLogs", &json!({"FunctionName": "hello"}));
    assert!(logs["TotalCount"].as_u64() >= Some(3 + round), "{logs}");
    for (qualifier, version) in [("$LATEST", 2), ("2", 2), ("old", 1)] {
        let expected = json!({"version": version, "layer": "from the layer", "variable": "from the environment"});
        assert_eq!(invoke(client, "hello", qualifier), expected, "{qualifier}");
    }
    let name = json!({"FunctionName": "hello"});
    let aliases = client.ok("ListAliases", &name);
    let aliases = texts(&aliases["Aliases"], "Name");
    assert!(
        ["live", "old"]
            .iter()
            .all(|name| aliases.contains(&(*name).to_owned())),
        "{aliases:?}"
    );
    let triggers = client.ok("ListTriggers", &name);
    let triggers = texts(&triggers["Triggers"], "TriggerName");
    assert!(triggers.contains(&"nightly".to_owned()), "{triggers:?}");
    assert_eq!(triggers.len(), 2, "the timer and the URL");
    let reserved = client.ok("GetReservedConcurrencyConfig", &name);
    assert_eq!(reserved["ReservedMem"], 1280);
    let account = client.ok("GetAccount", &json!({}));
    assert_eq!(account["AccountUsage"]["UserConcurrencyMemLimit"], 40960);
    let staging = client.ok("ListFunctions", &json!({"Namespace": "staging"}));
    assert_eq!(texts(&staging["Functions"], "FunctionName"), ["copy"]);
}

fn check_accounts(server: &Server, data: &Path) {
    let operator = server.client();
    let refused = operator.operate("CreateAccount", &json!({"Name": "second"}));
    assert!(refused.is_err(), "the name is taken");
    let client = second(server, data);
    let account = client.ok("GetAccount", &json!({}));
    assert_eq!(account["AccountUsage"]["UserConcurrencyMemLimit"], 20480);
    assert_eq!(invoke(&client, "hello", "$LATEST"), json!({}));
    let objects = server.objects_of(&client);
    let small = objects.ok("GET", "/photos-1250000001/small", &[], b"");
    assert_eq!(small, "a few bytes");
    let roles = operator.operate("ListRoles", &json!({}));
    assert!(roles.expect("roles").to_string().contains("reader"));
    let used = cli(server, &["usage", "hello"]);
    let rows = used.as_array().expect("a list").iter();
    let invocations: u64 = rows.filter_map(|row| row["Invocations"].as_u64()).sum();
    assert!(invocations >= 3, "{used}");
}

fn check_events(server: &mut Server) {
    let client = server.client();
    for (state, name) in [
        ("waiting", "flaky"),
        ("dead", "dead"),
        ("undelivered", "undelivered"),
    ] {
        let listed = cli(server, &["events", "list", "--state", state]);
        assert_eq!(texts(&listed, "FunctionName"), [name], "{state}");
    }
    let ready = json!({"Variables": [{"Key": "READY", "Value": "yes"}]});
    let update = json!({"FunctionName": "flaky", "Environment": ready});
    client.ok("UpdateFunctionConfiguration", &update);
    // Its next attempt is now, instead of in a minute.
    server.terminate();
    open(&server.data(), "events.sqlite")
        .execute_batch("UPDATE event SET due = accepted WHERE state = 0")
        .expect("a new time");
    server.restart();
    let client = server.client();
    eventually("the queued event has run", || {
        let listed = client.ok("ListAsyncEvents", &json!({"FunctionName": "flaky"}));
        texts(&listed["EventList"], "Status") == ["FINISHED"]
    });
    let code = testkit::package(&[(
        "index.py",
        "def main_handler(event, context):\n    return event\n",
    )]);
    let update = json!({"FunctionName": "dead", "ZipFile": code});
    client.ok("UpdateFunctionCode", &update);
    let replayed = cli(server, &["events", "replay", "--function", "dead"]);
    assert_eq!(replayed["Count"], 1);
    eventually("the dead event has run", || {
        let listed = client.ok("ListAsyncEvents", &json!({"FunctionName": "dead"}));
        texts(&listed["EventList"], "Status") == ["FINISHED"]
    });
    let purged = cli(server, &["events", "purge", "--function", "undelivered"]);
    assert_eq!(purged["Count"], 1);
}

fn check_objects(server: &Server, round: u64) {
    let objects = server.objects();
    let get = |key: &str| objects.ok("GET", &format!("{BUCKET}/{key}"), &[], b"");
    assert_eq!(get("small"), "a few bytes");
    assert_eq!(get("versioned"), "version 2");
    let large = "0123456789abcdef".repeat(32_768);
    assert!(get("large") == large && get("copied") == large);
    let versions = objects.ok(
        "GET",
        &format!("{BUCKET}?versions&prefix=versioned"),
        &[],
        b"",
    );
    assert_eq!(versions.matches("<Version>").count(), 2, "{versions}");
    let uploads = objects.ok("GET", &format!("{BUCKET}?uploads"), &[], b"");
    assert!(uploads.contains("<Key>in parts</Key>"), "{uploads}");
    // A change still runs the function of its trigger.
    objects.ok("PUT", &format!("{BUCKET}/in/{round}"), &[], b"x");
    let client = server.client();
    eventually("the function has run", || {
        let listed = client.ok(
            "ListAsyncEvents",
            &json!({"FunctionName": "seen", "Status": ["FINISHED"]}),
        );
        listed["TotalCount"] == round + 2
    });
}

/// No store has a name of the earlier release any more.
fn check_stored_names(data: &Path) {
    let catalog = open(data, "catalog.sqlite");
    let keys = strings(
        &catalog,
        "SELECT key FROM entry WHERE key LIKE 'account/%' OR key LIKE 'settings/%' OR key LIKE 'tenant/%' ORDER BY key",
    );
    assert_eq!(
        keys,
        [
            "account/1250000001",
            "settings/1250000000",
            "settings/1250000001"
        ]
    );
    let events = open(data, "events.sqlite");
    let kinds = strings(
        &events,
        "SELECT DISTINCT substr(key, 1, instr(key, '/')) FROM queue ORDER BY 1",
    );
    assert_eq!(kinds, ["dead-letters/", "function/"]);
    let tables =
        "SELECT name FROM sqlite_schema WHERE name IN ('lane', 'leaving', 'orphan', 'queue')";
    assert_eq!(strings(&events, tables), ["queue"]);
    let index = open(&data.join("buckets"), "index.sqlite");
    assert_eq!(strings(&index, tables), ["orphan"]);
}
