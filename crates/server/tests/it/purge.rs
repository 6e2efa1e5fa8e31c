//! A deleted account leaves nothing but its ids, which no other account gets.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Server, eventually};

use crate::server;

/// A new account, and its root.
fn account(operator: &Client, name: &str) -> (Value, Client) {
    let created = operator.operate("CreateAccount", &json!({"Name": name}));
    let created = created.expect("an account");
    let root = operator.with_new_key(&created["Key"]);
    (created["Account"].clone(), root)
}

fn delete(operator: &Client, name: &str) {
    let deleted = operator.operate("DeleteAccount", &json!({"Account": name}));
    deleted.expect("deleted");
}

fn ids(account: &Value) -> (u64, u64) {
    let uin = account["Uin"].as_str().and_then(|uin| uin.parse().ok());
    (
        account["AppId"].as_u64().expect("an AppId"),
        uin.expect("a Uin"),
    )
}

fn refusal(operator: &Client, request: &Value) -> (String, String) {
    let refused = operator
        .operate("CreateAccount", request)
        .expect_err("refused");
    (refused.code, refused.message)
}

#[test]
fn ids_of_a_deleted_account_are_never_reused() {
    let mut server = server();
    let operator = server.client();
    let (first, _) = account(&operator, "first");
    delete(&operator, "first");
    server.kill();
    server.restart();
    let operator = server.client();
    let (second, _) = account(&operator, "first");
    let ((app_id, uin), (next_app_id, next_uin)) = (ids(&first), ids(&second));
    assert!(next_app_id > app_id && next_uin > uin, "{first} {second}");
    for (request, field) in [
        (json!({"Name": "again", "AppId": app_id}), "AppId"),
        (json!({"Name": "again", "Uin": uin}), "Uin"),
    ] {
        let (code, message) = refusal(&operator, &request);
        assert_eq!(code, "FailedOperation.OperationConflict", "{message}");
        assert!(
            message.starts_with(field) && message.contains("never reused"),
            "{message}"
        );
    }
    for wrong in [0, u64::MAX] {
        let (code, message) = refusal(&operator, &json!({"Name": "again", "AppId": wrong}));
        assert_eq!(code, "InvalidParameterValue", "{message}");
    }
    // One that no account ever had may be named.
    let named = operator.operate(
        "CreateAccount",
        &json!({"Name": "low", "AppId": 7, "Uin": 9}),
    );
    assert_eq!(ids(&named.expect("an account")["Account"]), (7, 9));
}

/// What an older virga, or a restored backup, has left of an account that the catalog knows nothing of.
#[test]
fn new_ids_are_above_every_id_in_any_store() {
    let rows = [
        (
            1_250_000_004,
            "logs.sqlite",
            "INSERT INTO function (account, namespace, name) VALUES (1250000004, 'default', 'gone')",
        ),
        (
            1_250_000_006,
            "events.sqlite",
            "INSERT INTO queue (key) VALUES ('function/1250000006/default/gone')",
        ),
        (
            1_250_000_008,
            "buckets/index.sqlite",
            "INSERT INTO bucket (name, record) VALUES ('gone-1250000008', \
          CAST('{\"v\":1,\"record\":{\"name\":\"gone-1250000008\",\"created_ms\":1}}' AS BLOB))",
        ),
    ];
    let mut server = Server::flags(crate::VIRGA, &["--bucket-listen", "127.0.0.1:0"]);
    account(&server.client(), "first");
    for (gone, file, row) in rows {
        server.terminate();
        let store = rusqlite::Connection::open(server.data().join(file)).expect("a store");
        store.execute(row, []).expect(file);
        drop(store);
        server.restart();
        let (app_id, _) = ids(&account(&server.client(), &format!("after{gone}")).0);
        assert!(
            app_id > gone,
            "{file}: {app_id} is not above an id with data"
        );
    }
    let (code, _) = refusal(
        &server.client(),
        &json!({"Name": "again", "AppId": 1_250_000_006}),
    );
    assert_eq!(code, "FailedOperation.OperationConflict");
}

const HELLO: &str = "def main_handler(e, c):\n    print('to the log')\n    return e\n";
const BUCKETS: &[&str] = &["--bucket-listen", "127.0.0.1:0"];

/// Gives an account something of every kind; the code is its own.
fn furnish(server: &Server, root: &Client, app_id: u64, size: usize) {
    let source = format!("{HELLO}\n# {app_id}\n");
    root.ok("CreateNamespace", &json!({"Namespace": "other"}));
    let layer = json!({"ZipFile": testkit::package(&[("lib.py", &format!("OF = {app_id}\n"))])});
    let published = root.ok(
        "PublishLayerVersion",
        &json!({"LayerName": "lib", "CompatibleRuntimes": ["Python3.6"], "Content": layer}),
    );
    assert_eq!(published["LayerVersion"], 1);
    root.create(
        "hello",
        &source,
        json!({"Layers": [{"LayerName": "lib", "LayerVersion": 1}]}),
    );
    root.ok("PublishVersion", &json!({"FunctionName": "hello"}));
    root.ok(
        "CreateTrigger",
        &json!({"FunctionName": "hello", "TriggerName": "never", "Type": "timer", "TriggerDesc": "0 0 0 1 1 * 2099"}),
    );
    root.operate(
        "PutRole",
        &json!({"Name": "reader", "Policy": {"version": "2.0", "statement": [{"effect": "allow", "action": "scf:List*", "resource": "*"}]}}),
    )
    .expect("a role");
    for _ in 0..size {
        root.invoke("hello", &json!({"of": app_id}));
        root.ok(
            "Invoke",
            &json!({"FunctionName": "hello", "InvocationType": "Event", "ClientContext": "{}"}),
        );
    }
    let objects = server.objects_of(root);
    let bucket = format!("/data-{app_id}");
    objects.ok("PUT", &bucket, &[], b"");
    for number in 0..4 * size {
        objects.ok(
            "PUT",
            &format!("{bucket}/object{number}"),
            &[],
            b"text of its own",
        );
    }
    objects.ok("PUT", &format!("{bucket}/large"), &[], &vec![7; 2 << 20]);
    eventually("its events have run", || {
        let listed = root.ok(
            "ListAsyncEvents",
            &json!({"FunctionName": "hello", "Status": ["FINISHED"]}),
        );
        listed["TotalCount"] == size
    });
}

fn purge(operator: &Client, name: &str) -> Value {
    let request = json!({"Account": name, "Purge": true});
    operator
        .operate("DeleteAccount", &request)
        .expect("it is begun")
}

fn listed(operator: &Client, app_id: u64) -> Option<Value> {
    let all = operator
        .operate("ListAccounts", &json!({}))
        .expect("a list");
    let all = all["Accounts"].as_array().expect("accounts").clone();
    all.into_iter().find(|one| one["AppId"] == app_id)
}

fn number(store: &Path, sql: &str) -> i64 {
    let store = rusqlite::Connection::open(store).expect("a store");
    store.query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// What stores and directories of a server that does not run have of an account.
fn traces(data: &Path, app_id: u64) -> Vec<String> {
    let rows = [
        (
            "logs.sqlite",
            format!("SELECT COUNT(*) FROM function WHERE account = {app_id}"),
        ),
        (
            "logs.sqlite",
            "SELECT COUNT(*) FROM invocation WHERE function NOT IN (SELECT id FROM function)"
                .to_owned(),
        ),
        (
            "events.sqlite",
            format!("SELECT COUNT(*) FROM queue WHERE key LIKE '%/{app_id}/%'"),
        ),
        (
            "events.sqlite",
            "SELECT COUNT(*) FROM event WHERE function NOT IN (SELECT id FROM queue)".to_owned(),
        ),
        (
            "events.sqlite",
            "SELECT COUNT(*) FROM usage WHERE function NOT IN (SELECT id FROM queue)".to_owned(),
        ),
        (
            "buckets/index.sqlite",
            format!("SELECT COUNT(*) FROM bucket WHERE name LIKE '%-{app_id}'"),
        ),
        (
            "buckets/index.sqlite",
            "SELECT COUNT(*) FROM object WHERE bucket NOT IN (SELECT id FROM bucket)".to_owned(),
        ),
        (
            "catalog.sqlite",
            format!(
                "SELECT COUNT(*) FROM entry WHERE key LIKE '%/{app_id}%' AND key NOT LIKE 'issued/%'"
            ),
        ),
    ];
    let found = rows
        .iter()
        .map(|(file, sql)| (sql, number(&data.join(file), sql)));
    let found = found.filter(|(_, count)| *count != 0);
    found
        .map(|(sql, count)| format!("{sql}: {count}"))
        .collect()
}

fn code(data: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["archives", "packages", "trees", "merged"] {
        let entries = std::fs::read_dir(data.join("code").join(folder)).expect("a directory");
        names.extend(entries.map(|entry| {
            format!(
                "{folder}/{}",
                entry.expect("an entry").file_name().display()
            )
        }));
    }
    names
}

#[test]
fn account_with_resources_is_not_deleted_and_they_are_counted() {
    let server = Server::flags(crate::VIRGA, BUCKETS);
    let operator = server.client();
    let (second, root) = account(&operator, "second");
    furnish(&server, &root, ids(&second).0, 2);
    let refused = || {
        let refused = operator.operate("DeleteAccount", &json!({"Account": "second"}));
        let refused = refused.expect_err("refused");
        assert_eq!(refused.code, "FailedOperation", "{}", refused.message);
        refused.message
    };
    let message = refused();
    for part in [
        "1 function,",
        "1 published version,",
        "1 trigger,",
        "1 layer,",
        "1 namespace,",
        "1 bucket,",
        "9 objects,",
        "2 past events,",
        "4 log records,",
        "--purge",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // With its functions gone, the rest still is the next one's to find.
    root.ok("DeleteFunction", &json!({"FunctionName": "hello"}));
    root.ok("DeleteNamespace", &json!({"Namespace": "other"}));
    root.ok(
        "DeleteLayerVersion",
        &json!({"LayerName": "lib", "LayerVersion": 1}),
    );
    let message = refused();
    assert!(
        message.contains("log records")
            && message.contains("usage entr")
            && message.contains("bucket"),
        "{message}"
    );
    assert_eq!(
        root.code("ListFunctions", &json!({})),
        "",
        "a refusal changes nothing"
    );
}

#[test]
fn purge_removes_everything_of_the_account_and_nothing_else() {
    let mut server = Server::flags(crate::VIRGA, BUCKETS);
    let operator = server.client();
    let before = code(&server.data());
    let (second, root) = account(&operator, "second");
    let (third, other) = account(&operator, "third");
    let ((app_id, _), (other_id, _)) = (ids(&second), ids(&third));
    furnish(&server, &other, other_id, 2);
    let others = code(&server.data());
    furnish(&server, &root, app_id, 20);
    assert!(code(&server.data()).len() > others.len() && others.len() > before.len());
    let done = server.cli(&["account", "delete", "second", "--purge"]);
    let printed: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(
        (&printed["State"], &printed["AppId"]),
        (&json!("Deleted"), &json!(app_id))
    );
    let had = printed["Had"].to_string();
    for kind in [
        "functions",
        "objects",
        "log records",
        "usage entries",
        "past events",
    ] {
        assert!(had.contains(kind), "{kind}: {had}");
    }
    assert_eq!(
        root.code("ListFunctions", &json!({})),
        "AuthFailure.SecretIdNotFound"
    );
    assert_eq!(listed(&operator, app_id), None);
    assert_eq!(
        code(&server.data()),
        others,
        "its code, and no one else's, is gone"
    );
    // What it had used is kept for its last invoice.
    let all = operator
        .operate("ListAccounts", &json!({}))
        .expect("a list");
    let gone = &all["Deleted"][0];
    assert_eq!(
        (&gone["AppId"], &gone["Name"], &gone["Invocations"]),
        (&json!(app_id), &json!("second"), &json!(40))
    );
    // The other one has all that it had.
    assert_eq!(other.invoke("hello", &json!({}))["InvokeResult"], 0);
    let objects = server.objects_of(&other);
    assert_eq!(
        objects.ok("GET", &format!("/data-{other_id}/object7"), &[], b""),
        "text of its own"
    );
    // The next account of the name sees nothing of it.
    let (next, _) = account(&operator, "second");
    assert_ne!(ids(&next).0, app_id);
    server.terminate();
    assert_eq!(traces(&server.data(), app_id), Vec::<String>::new());
    assert!(
        !traces(&server.data(), other_id).is_empty(),
        "traces are looked for where they are"
    );
}

#[test]
fn a_purge_that_is_killed_goes_on_and_the_account_stays_closed() {
    let mut server = Server::flags(crate::VIRGA, BUCKETS);
    for (round, pause) in [0, 0, 15, 40, 90].into_iter().enumerate() {
        let operator = server.client();
        let (made, root) = account(&operator, &format!("round{round}"));
        let (app_id, _) = ids(&made);
        let before = code(&server.data());
        furnish(&server, &root, app_id, 8);
        let objects = server.objects_of(&root);
        let name = format!("round{round}");
        // The caller does not wait for the answer: the kill may come at any moment.
        let asked = std::thread::spawn(move || {
            let request = json!({"Account": name, "Purge": true});
            let _ = operator.attempt_operate("DeleteAccount", &request);
        });
        eventually("the account is closed", || {
            root.code("ListFunctions", &json!({})) == "AuthFailure.SecretIdNotFound"
        });
        let open = objects.attempt("GET", &format!("/data-{app_id}/object1"), &[], b"");
        assert!(
            open.is_none_or(|answer| answer.status != 200),
            "a closed account serves no object"
        );
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        asked.join().expect("it was asked");
        server.restart();
        if round % 2 == 1 {
            server.kill();
            server.restart();
        }
        let operator = server.client();
        let again = operator.with_key(&root.id, root.key.reveal());
        assert_eq!(
            again.code("ListFunctions", &json!({})),
            "AuthFailure.SecretIdNotFound"
        );
        if let Some(one) = listed(&operator, app_id) {
            assert_eq!(one["State"], "Deleting", "{one}");
        }
        eventually("it is gone", || listed(&operator, app_id).is_none());
        assert_eq!(code(&server.data()), before);
        server.terminate();
        assert_eq!(
            traces(&server.data(), app_id),
            Vec::<String>::new(),
            "round {round}"
        );
        server.restart();
    }
}

#[test]
fn running_invocations_end_when_their_account_is_purged() {
    let server = Server::flags(crate::VIRGA, BUCKETS);
    let operator = server.client();
    let (made, root) = account(&operator, "second");
    let slow = "import time\ndef main_handler(e, c):\n    time.sleep(300)\n";
    root.create("slow", slow, json!({"Timeout": 600}));
    root.ok(
        "Invoke",
        &json!({"FunctionName": "slow", "InvocationType": "Event", "ClientContext": "{}"}),
    );
    let caller = root.clone();
    let calling = std::thread::spawn(move || {
        caller.call(
            "Invoke",
            &json!({"FunctionName": "slow", "ClientContext": "{}"}),
        )
    });
    eventually("both run", || {
        operator.metric("virga_instances{state=\"busy\"}") == Some(2.0)
    });
    purge(&operator, "second");
    eventually("it is gone", || listed(&operator, ids(&made).0).is_none());
    eventually("nothing runs", || {
        operator.metric("virga_instances{state=\"busy\"}") == Some(0.0)
    });
    let answered = calling.join().expect("it was answered").expect("an answer");
    assert_ne!(answered["Result"]["InvokeResult"], 0, "{answered}");
}
