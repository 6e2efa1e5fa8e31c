//! Accounts, their keys, and what each may do.

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::{VIRGA, server};

const HELLO: &str =
    "def main_handler(e, c):\n    return c['tencentcloud_appid'], c['tencentcloud_uin']\n";

/// A new account's root.
fn account(operator: &Client, name: &str) -> Client {
    let created = operator
        .operate("CreateAccount", &json!({"Name": name}))
        .expect("an account");
    operator.with_new_key(&created["Key"])
}

/// A key of the caller's account with a policy.
fn bound(root: &Client, statements: Value) -> Client {
    let policy = json!({"version": "2.0", "statement": statements});
    let key = root
        .operate("CreateKey", &json!({"Policy": policy}))
        .expect("a key");
    root.with_new_key(&key)
}

fn refusal(result: Result<Value, testkit::ApiError>) -> String {
    result.expect_err("refused").code
}

#[test]
fn accounts_own_functions_of_the_same_name_with_their_own_ids_and_quotas() {
    let server = Server::flags(VIRGA, &["--limits", "functions_per_namespace=1"]);
    let first = server.client();
    let second = account(&first, "second");
    for client in [&first, &second] {
        client.create("hello", HELLO, json!({}));
        let full = json!({"FunctionName": "more", "Runtime": "Python3.6", "Code": {"ZipFile": testkit::package(&[("index.py", HELLO)])}});
        assert_eq!(
            client.code("CreateFunction", &full),
            "LimitExceeded.Function"
        );
    }
    assert_eq!(
        first.answer("hello", &json!({})),
        json!(["1250000000", "100000000001"])
    );
    assert_eq!(
        second.answer("hello", &json!({})),
        json!(["1250000001", "100000000002"])
    );
    second.ok("DeleteFunction", &json!({"FunctionName": "hello"}));
    assert_eq!(first.ok("ListFunctions", &json!({}))["TotalCount"], 1);
}

#[test]
fn empty_account_is_deleted_with_its_keys() {
    let mut server = server();
    let operator = server.client();
    let second = account(&operator, "second");
    second.create("hello", HELLO, json!({}));
    let delete = || operator.operate("DeleteAccount", &json!({"Account": "second"}));
    assert_eq!(refusal(delete()), "FailedOperation");
    second.ok("DeleteFunction", &json!({"FunctionName": "hello"}));
    // Accounts and keys survive a restart.
    server.kill();
    server.restart();
    let operator = server.client();
    let second = operator.with_key(&second.id, second.key.reveal());
    assert_eq!(second.ok("ListFunctions", &json!({}))["TotalCount"], 0);
    operator
        .operate("DeleteAccount", &json!({"Account": "second"}))
        .expect("deleted");
    assert_eq!(
        second.code("ListFunctions", &json!({})),
        "AuthFailure.SecretIdNotFound"
    );
    let own = operator.operate("DeleteAccount", &json!({"Account": "operator"}));
    assert_eq!(refusal(own), "InvalidParameterValue");
}

#[test]
fn operator_actions_are_refused_to_other_accounts() {
    let server = server();
    let operator = server.client();
    let second = account(&operator, "second");
    account(&operator, "third");
    for (action, request) in [
        ("CreateAccount", json!({"Name": "fourth"})),
        ("ListAccounts", json!({})),
        ("DeleteAccount", json!({"Account": "second"})),
    ] {
        assert_eq!(
            refusal(second.operate(action, &request)),
            "UnauthorizedOperation",
            "{action}"
        );
    }
    // Another account is as one that does not exist.
    for (action, request) in [
        ("DescribeAccount", json!({})),
        ("ListKeys", json!({})),
        ("ListRoles", json!({})),
        ("CreateKey", json!({})),
        ("DeleteKey", json!({"SecretId": operator.id})),
    ] {
        let of = |account: &str| {
            let mut request = request.clone();
            request["Account"] = account.into();
            let refused = second.operate(action, &request).expect_err("refused");
            (refused.code, refused.message.replace(account, "it"))
        };
        assert_eq!(of("third"), of("nowhere"), "{action}");
        assert_eq!(of("operator"), of("nowhere"), "{action}");
    }
    // Its own is its root's to care for.
    let own = second
        .operate("DescribeAccount", &json!({}))
        .expect("its own");
    assert_eq!(
        (&own["Name"], &own["AppId"]),
        (&json!("second"), &json!(1_250_000_001))
    );
    let keys = operator
        .operate("ListKeys", &json!({"Account": "second"}))
        .expect("keys");
    assert_eq!(keys["Keys"][0]["SecretId"], second.id.as_str());
    assert!(
        !keys.to_string().contains(second.key.reveal()),
        "a secret is shown once"
    );
    // A key with a policy does not manage accounts, even if its policy allows everything.
    let all = bound(
        &second,
        json!([{"effect": "allow", "action": "*", "resource": "*"}]),
    );
    assert_eq!(all.ok("ListFunctions", &json!({}))["TotalCount"], 0);
    assert_eq!(
        refusal(all.operate("ListKeys", &json!({}))),
        "UnauthorizedOperation"
    );
    // Ids and names are unique.
    for taken in [
        json!({"Name": "second"}),
        json!({"Name": "other", "AppId": 1_250_000_000}),
        json!({"Name": "other", "Uin": 100_000_000_002_u64}),
    ] {
        assert_eq!(
            refusal(operator.operate("CreateAccount", &taken)),
            "FailedOperation.OperationConflict"
        );
    }
}

#[test]
fn a_key_does_what_its_policy_says_and_nothing_else() {
    let server = server();
    let root = server.client();
    root.create("hello", HELLO, json!({}));
    root.create("other", HELLO, json!({}));
    let key = bound(
        &root,
        json!([
            {"effect": "allow", "action": ["scf:InvokeFunction", "scf:Get*", "scf:ListFunctions"],
             "resource": "qcs::scf:ap-guangzhou:uin/100000000001:namespace/default/*"},
            {"effect": "deny", "action": ["scf:*"], "resource": ["qcs::scf:::namespace/default/function/other"]},
        ]),
    );
    assert_eq!(key.invoke("hello", &json!({}))["InvokeResult"], 0);
    let named = json!({"FunctionName": "hello"});
    assert_eq!(
        key.code(
            "InvokeFunction",
            &json!({"FunctionName": "hello", "Event": "{}"})
        ),
        ""
    );
    assert_eq!(key.code("GetFunction", &named), "");
    // Permission for the functions in a namespace is not permission for the namespace.
    assert_eq!(
        key.code("ListFunctions", &json!({})),
        "UnauthorizedOperation"
    );
    let refused = key.call("DeleteFunction", &named).expect_err("not allowed");
    assert_eq!(refused.code, "UnauthorizedOperation");
    for part in [
        "(scf:DeleteFunction)",
        "(qcs::scf:ap-guangzhou:uin/100000000001:namespace/default/function/hello)",
        "no statement allows it",
    ] {
        assert!(
            refused.message.contains(part),
            "{part}: {}",
            refused.message
        );
    }
    let denied = key.call("GetFunction", &json!({"FunctionName": "other"}));
    assert!(
        denied
            .expect_err("denied")
            .message
            .contains("a statement denies it")
    );
    // What it may not do to one function it may not do by copying either.
    let copy = json!({"FunctionName": "hello", "NewFunctionName": "copy"});
    assert_eq!(key.code("CopyFunction", &copy), "UnauthorizedOperation");
    // A refused field is named before the answer shows whether a resource exists.
    assert_eq!(
        key.code("GetFunction", &json!({"FunctionName": 7})),
        "InvalidParameter"
    );

    let update = |more: Value| {
        let mut request = json!({"SecretId": key.id});
        request
            .as_object_mut()
            .expect("one")
            .extend(more.as_object().expect("one").clone());
        root.operate("UpdateKey", &request).expect("updated")
    };
    update(
        json!({"Policy": {"version": "2.0", "statement": [{"effect": "allow", "action": "scf:DeleteFunction", "resource": "*"}]}}),
    );
    assert_eq!(
        key.code("GetFunction", &named),
        "UnauthorizedOperation",
        "a change holds at once"
    );
    update(json!({"Disabled": true}));
    assert_eq!(
        key.code("DeleteFunction", &named),
        "AuthFailure.SecretIdNotFound"
    );
    update(json!({"Disabled": false}));
    assert_eq!(key.code("DeleteFunction", &named), "");
    root.operate("DeleteKey", &json!({"SecretId": key.id}))
        .expect("deleted");
    assert_eq!(
        key.code("GetFunction", &named),
        "AuthFailure.SecretIdNotFound"
    );
}

#[test]
fn unsupported_policies_are_refused() {
    let server = server();
    let root = server.client();
    for (statement, part) in [
        (
            json!({"effect": "allow", "action": ["scf:Nothing"], "resource": ["*"]}),
            "scf:Nothing",
        ),
        (
            json!({"effect": "allow", "action": ["*"], "resource": ["*"], "condition": {}}),
            "condition",
        ),
        (
            json!({"effect": "allow", "action": ["*"], "resource": ["hello"]}),
            "hello",
        ),
        (
            json!({"effect": "deny", "action": ["scf:DeleteFuncton"], "resource": ["*"]}),
            "the nearest is \"scf:DeleteFunction\"",
        ),
        (
            json!({"effect": "deny", "action": ["scf:Delte*"], "resource": ["*"]}),
            "the nearest is \"scf:Delete",
        ),
        (
            json!({"effect": "deny", "action": ["sfc:DeleteFunction"], "resource": ["*"]}),
            "the nearest is \"scf:DeleteFunction\"",
        ),
        (
            json!({"effect": "deny", "action": ["cos:PutObjects"], "resource": ["*"]}),
            "the nearest is \"cos:PutObject\"",
        ),
        (
            json!({"effect": "deny", "action": ["scf:*"], "resource": ["qcs::scf:::namespace/default/functions/x"]}),
            "function/<name>",
        ),
        (
            json!({"effect": "deny", "action": ["scf:*"], "resource": ["qcs::scf:ap-guangzhu::*"]}),
            "ap-guangzhou",
        ),
        (
            json!({"effect": "deny", "action": ["scf:*"], "resource": ["qcs::scf::uin/100000000009:*"]}),
            "uin/100000000001",
        ),
        (
            json!({"effect": "deny", "action": ["scf:DeleteFunction"], "resource": ["qcs::cos:::*"]}),
            "no resource of its statement",
        ),
    ] {
        let request = json!({"Policy": {"version": "2.0", "statement": [statement]}});
        let refused = root.operate("CreateKey", &request).expect_err("refused");
        assert_eq!(refused.code, "InvalidParameterValue");
        assert!(refused.message.contains(part), "{}", refused.message);
    }
    assert_eq!(
        root.operate("ListKeys", &json!({})).expect("keys")["Keys"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    // Roles and changes of keys are looked at in the same way.
    let misspelt = json!({"version": "2.0", "statement": [{"effect": "deny", "action": "scf:DeleteFuncton", "resource": "*"}]});
    let key = root.operate("CreateKey", &json!({})).expect("a key");
    for (action, request) in [
        ("PutRole", json!({"Name": "role", "Policy": misspelt})),
        (
            "UpdateKey",
            json!({"SecretId": key["SecretId"], "Policy": misspelt}),
        ),
    ] {
        assert_eq!(
            refusal(root.operate(action, &request)),
            "InvalidParameterValue",
            "{action}"
        );
    }
}

#[test]
fn rate_limits_apply_per_account_and_action() {
    let server = Server::flags(VIRGA, &["--rate-limits", "ListFunctions=1,GetAccount=0"]);
    let first = server.client();
    let second = account(&first, "second");
    // A burst is one a second; a slow machine may get through another.
    let codes: Vec<_> = (0..20)
        .map(|_| first.code("ListFunctions", &json!({})))
        .collect();
    assert_eq!(codes[0], "");
    assert!(
        codes.iter().any(|code| code == "RequestLimitExceeded"),
        "{codes:?}"
    );
    assert!(
        codes
            .iter()
            .all(|code| code.is_empty() || code == "RequestLimitExceeded")
    );
    assert_eq!(second.code("ListFunctions", &json!({})), "");
    assert!((0..20).all(|_| first.code("GetAccount", &json!({})).is_empty()));
}

#[test]
fn repeated_auth_failures_block_source_ip() {
    let server = Server::flags(VIRGA, &["--auth-failures", "1"]);
    let client = server.client();
    let stranger = client.with_key(&client.id, "wrong");
    let mut codes = std::collections::BTreeSet::new();
    testkit::eventually("it is refused", || {
        codes.insert(stranger.code("ListFunctions", &json!({})));
        codes.contains("RequestLimitExceeded")
    });
    assert_eq!(codes.len(), 2, "{codes:?}");
    assert!(codes.contains("AuthFailure.SignatureFailure"));
    // It is admitted again, and valid signatures never count.
    testkit::eventually("it is admitted again", || {
        client.code("ListFunctions", &json!({})).is_empty()
    });
}

#[test]
fn command_line_manages_accounts_and_keys() {
    let server = server();
    let run = |words: &str| {
        let done = server.cli(&words.split(' ').collect::<Vec<_>>());
        let shown = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            done.status.success(),
            "{words}: {shown}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        shown
    };
    let json = |words: &str| serde_json::from_str::<Value>(&run(words)).expect("JSON");
    let created = json("account create team");
    assert_eq!(created["AppId"], 1_250_000_001);
    let shown = run("account list --text");
    assert!(
        shown.contains("team") && shown.contains("operator"),
        "{shown}"
    );
    let policy = server.data().join("policy.json");
    std::fs::write(
        &policy,
        r#"{"version": "2.0", "statement": [{"effect": "allow", "action": "scf:List*", "resource": "*"}]}"#,
    )
    .expect("written");
    let key = json(&format!(
        "key create --account team --policy {}",
        policy.display()
    ));
    let client = server.client().with_new_key(&key);
    assert_eq!(client.code("ListFunctions", &json!({})), "");
    assert_eq!(
        client.code("GetAccount", &json!({})),
        "UnauthorizedOperation"
    );
    let id = key["SecretId"].as_str().expect("an id");
    run(&format!("key disable {id} --account team"));
    assert_eq!(
        client.code("ListFunctions", &json!({})),
        "AuthFailure.SecretIdNotFound"
    );
    let listed = run("key list -a team --text");
    assert!(
        listed.contains("Disabled") && listed.contains(id),
        "{listed}"
    );
    run(&format!("key delete {id} -a team"));
    assert_eq!(json("account show team")["Keys"], 1);
    run("account delete team");
    let missing = server.cli(&["account", "show", "team"]);
    assert_eq!(missing.status.code(), Some(3));
    let message = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(message.contains("\"team\""), "{message}");
}
