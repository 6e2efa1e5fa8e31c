//! What is left of an account that was deleted: its ids, which no other account gets, and nothing else.

use serde_json::{Value, json};
use testkit::{Client, Server};

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
fn no_account_gets_the_ids_of_one_that_was_deleted() {
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
            message.starts_with(field) && message.contains("never given twice"),
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
fn ids_start_above_all_that_any_store_has_data_of() {
    let rows = [
        (
            1_250_000_004,
            "logs.sqlite",
            "INSERT INTO function (account, namespace, name) VALUES (1250000004, 'default', 'gone')",
        ),
        (
            1_250_000_006,
            "events.sqlite",
            "INSERT INTO lane (key) VALUES ('function/1250000006/default/gone')",
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
        assert!(app_id > gone, "{file}: {app_id} is not above what has data");
    }
    let (code, _) = refusal(
        &server.client(),
        &json!({"Name": "again", "AppId": 1_250_000_006}),
    );
    assert_eq!(code, "FailedOperation.OperationConflict");
}
