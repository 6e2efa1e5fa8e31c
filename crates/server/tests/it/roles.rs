//! Roles: what functions may do in the name of their account, and temporary credentials.

use serde_json::{Value, json};
use testkit::{Client, Server};

use crate::signed_calls::CALLS;
use crate::{VIRGA, server};

fn policy(effect: &str, action: &str, resource: &str) -> Value {
    json!({"version": "2.0", "statement": [{"effect": effect, "action": action, "resource": resource}]})
}

fn put_role(client: &Client, name: &str, policy: &Value) {
    let role = client.operate("PutRole", &json!({"Name": name, "Policy": policy}));
    role.expect("a role");
}

#[test]
fn function_is_bounded_by_its_role() {
    let server = server();
    let client = server.client();
    put_role(
        &client,
        "lister",
        &policy("allow", "scf:ListFunctions", "*"),
    );
    client.create("calls", CALLS, json!({"Role": "lister"}));
    assert_eq!(
        client.ok("GetFunction", &json!({"FunctionName": "calls"}))["Role"],
        "lister"
    );
    let call = |action: &str, fields: Value| {
        client.answer("calls", &json!({"action": action, "fields": fields}))
    };
    assert_eq!(call("ListFunctions", json!({}))["TotalCount"], 1);
    let refused = call("DeleteFunction", json!({"FunctionName": "calls"}));
    assert_eq!(refused["Error"]["Code"], "UnauthorizedOperation");
    // The operator's API refuses functions, whatever their role.
    put_role(&client, "lister", &policy("allow", "*", "*"));
    let operate = json!({"action": "ListKeys", "fields": {}, "version": "virga-1"});
    assert_eq!(
        client.answer("calls", &operate)["Error"]["Code"],
        "UnauthorizedOperation"
    );
    // A change of the role holds at once, and so does its end, also when another of its name comes.
    assert_eq!(call("ListNamespaces", json!({}))["TotalCount"], 1);
    let used = client.operate("DeleteRole", &json!({"Name": "lister"}));
    let used = used.expect_err("a function has it");
    let used = format!("{} {}", used.code, used.message);
    assert!(
        used.contains("ResourceInUse") && used.contains("default/calls"),
        "{used}"
    );
    client
        .operate("DeleteRole", &json!({"Name": "lister", "Force": true}))
        .expect("deleted");
    let gone = call("ListFunctions", json!({}));
    assert_eq!(gone["Error"]["Code"], "AuthFailure.TokenFailure", "{gone}");
    put_role(&client, "lister", &policy("allow", "*", "*"));
    assert_eq!(
        call("ListFunctions", json!({}))["Error"]["Code"],
        "AuthFailure.TokenFailure"
    );
    // Without a role there are no credentials.
    client.ok(
        "UpdateFunctionConfiguration",
        &json!({"FunctionName": "calls", "Role": ""}),
    );
    assert_eq!(
        client.answer("calls", &json!({"environment": true})),
        json!({})
    );
    let unknown = json!({"FunctionName": "calls", "Role": "nobody"});
    assert_eq!(
        client.code("UpdateFunctionConfiguration", &unknown),
        "ResourceNotFound.Role"
    );
}

#[test]
fn credentials_of_an_instance_are_its_own_and_an_old_instance_is_replaced() {
    let server = Server::flags(VIRGA, &["--role-session", "2", "--keep-alive", "1"]);
    let client = server.client();
    put_role(&client, "reader", &policy("allow", "scf:Get*", "*"));
    client.create("calls", CALLS, json!({"Role": "reader", "Timeout": 1}));
    let credentials = || client.answer("calls", &json!({"environment": true}));
    let first = credentials();
    assert_eq!(
        first.as_object().map(serde_json::Map::len),
        Some(3),
        "{first}"
    );
    testkit::eventually("the instance is replaced", || credentials() != first);
}

#[test]
fn role_is_assigned_only_with_the_permission_to_pass_it() {
    let server = server();
    let root = server.client();
    put_role(&root, "admin", &policy("allow", "*", "*"));
    let key = |statements: Value| {
        let policy = json!({"version": "2.0", "statement": statements});
        let key = root.operate("CreateKey", &json!({"Policy": policy}));
        root.with_new_key(&key.expect("a key"))
    };
    let functions = json!({"effect": "allow", "action": "scf:*", "resource": "*"});
    let package = testkit::package(&[("index.py", CALLS)]);
    let create = |name: &str| json!({"FunctionName": name, "Runtime": "Python3.6", "Role": "admin", "Code": {"ZipFile": package}});
    let deployer = key(json!([functions]));
    assert_eq!(
        deployer.code("CreateFunction", &create("rises")),
        "UnauthorizedOperation"
    );
    root.ok("CreateFunction", &create("trusted"));
    let copy = json!({"FunctionName": "trusted", "NewFunctionName": "rises"});
    assert_eq!(
        deployer.code("CopyFunction", &copy),
        "UnauthorizedOperation"
    );
    let pass = json!({"effect": "allow", "action": "cam:PassRole", "resource": "qcs::cam::uin/100000000001:roleName/admin"});
    assert_eq!(
        key(json!([functions, pass])).code("CreateFunction", &create("lent")),
        ""
    );
}

#[test]
fn temporary_credentials_expire_and_need_their_token() {
    let server = server();
    let client = server.client();
    put_role(&client, "lister", &policy("allow", "scf:List*", "*"));
    let lend = |seconds: u64| {
        let request = json!({"Name": "lister", "Seconds": seconds});
        client.operate("AssumeRole", &request)
    };
    let code = |lent: &Value, token: &Value, action: &str| {
        let text = |name: &str| lent[name].as_str().expect("text").to_owned();
        let pair = client.with_key(&text("TmpSecretId"), &text("TmpSecretKey"));
        pair.code_with_token(action, token.as_str().expect("text"))
    };
    let lent = lend(3600).expect("lent");
    let other = lend(3600).expect("lent");
    assert_eq!(code(&lent, &lent["Token"], "ListFunctions"), "");
    assert_eq!(
        code(&lent, &lent["Token"], "GetAccount"),
        "UnauthorizedOperation"
    );
    for wrong in [&json!(""), &json!("x.y.z"), &other["Token"]] {
        assert_eq!(
            code(&lent, wrong, "ListFunctions"),
            "AuthFailure.TokenFailure",
            "{wrong}"
        );
    }
    let mut stolen = lent.clone();
    stolen["TmpSecretKey"] = other["TmpSecretKey"].clone();
    assert_eq!(
        code(&stolen, &lent["Token"], "ListFunctions"),
        "AuthFailure.SignatureFailure"
    );
    let short = lend(1).expect("lent");
    testkit::eventually("they expire", || {
        code(&short, &short["Token"], "ListFunctions") == "AuthFailure.TokenFailure"
    });
    assert!(lend(0).is_err() && lend(43_201).is_err());
}
