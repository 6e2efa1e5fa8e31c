//! The actions, one after another, as their documentation has them.

mod logs;

use serde_json::{Value, json};
use testkit::{Client, Server, package};

use crate::{VIRGA, server};

const HELLO: &str = "def main_handler(e, c):\n    return 'hello'\n";

fn names(list: &Value) -> Vec<String> {
    let functions = list["Functions"].as_array().expect("a list");
    functions
        .iter()
        .map(|f| f["FunctionName"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_function_is_created_with_scfs_defaults_and_shown() {
    let server = server();
    let client = server.client();
    let nothing = json!({"version": "2.0", "statement": []});
    let role = client.operate("PutRole", &json!({"Name": "r", "Policy": nothing}));
    role.expect("a role");
    client.create(
        "hello",
        HELLO,
        json!({"Tags": [{"Key": "team", "Value": "rain"}], "Role": "r", "UnknownField": {"x": 1}}),
    );
    let shown = client.ok(
        "GetFunction",
        &json!({"FunctionName": "hello", "ShowCode": "TRUE"}),
    );
    for (field, value) in [
        ("FunctionName", json!("hello")),
        ("Namespace", json!("default")),
        ("Status", json!("Active")),
        ("AvailableStatus", json!("Available")),
        ("Handler", json!("index.main_handler")),
        ("MemorySize", json!(128)),
        ("Timeout", json!(3)),
        ("InitTimeout", json!(65)),
        ("Type", json!("Event")),
        ("FunctionVersion", json!("$LATEST")),
        ("CodeInfo", json!(HELLO)),
        ("CodeResult", json!("success")),
        ("CodeError", json!("")),
        ("ErrNo", json!(0)),
        ("Role", json!("r")),
        ("Triggers", json!([])),
        ("Layers", json!([])),
        ("Environment", json!({"Variables": []})),
        ("Tags", json!([{"Key": "team", "Value": "rain"}])),
        ("InstallDependency", json!("FALSE")),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let id = shown["FunctionId"].as_str().expect("an id");
    assert!(id.starts_with("lam-") && id.len() == 12, "{id}");
    assert_eq!(
        shown["AddTime"].as_str().map(str::len),
        Some("2018-04-16 00:00:00".len())
    );
    assert_eq!(
        client.ok("GetFunction", &json!({"FunctionName": "hello"}))["CodeInfo"],
        ""
    );
}

#[test]
fn wrong_fields_are_named() {
    let server = server();
    let client = server.client();
    client.create("taken", HELLO, json!({}));
    let zip = package(&[("index.py", HELLO)]);
    let good = json!({"FunctionName": "fine", "Runtime": "Python3.6", "Code": {"ZipFile": zip}});
    let rows = [
        (
            json!({"FunctionName": "taken"}),
            "ResourceInUse.FunctionName",
            "FunctionName",
        ),
        (
            json!({"FunctionName": "1st"}),
            "InvalidParameterValue.FunctionName",
            "FunctionName",
        ),
        (
            json!({"FunctionName": "x"}),
            "InvalidParameterValue.FunctionName",
            "FunctionName",
        ),
        (
            json!({"FunctionName": "ends-"}),
            "InvalidParameterValue.FunctionName",
            "FunctionName",
        ),
        (
            json!({"FunctionName": "n".repeat(61)}),
            "InvalidParameterValue.FunctionName",
            "60",
        ),
        (
            json!({"FunctionName": 5}),
            "InvalidParameter",
            "FunctionName",
        ),
        (
            json!({"Namespace": "nowhere"}),
            "ResourceNotFound.Namespace",
            "nowhere",
        ),
        (
            json!({"Handler": "main"}),
            "InvalidParameterValue.Handler",
            "Handler",
        ),
        (
            json!({"Runtime": "Cobol"}),
            "InvalidParameterValue.Runtime",
            "Runtime",
        ),
        (
            json!({"MemorySize": 100}),
            "InvalidParameterValue.MemorySize",
            "multiple of 128",
        ),
        (
            json!({"MemorySize": 4096}),
            "InvalidParameterValue.MemorySize",
            "3072",
        ),
        (
            json!({"MemorySize": "big"}),
            "InvalidParameter",
            "MemorySize",
        ),
        (json!({"Timeout": 0}), "LimitExceeded.Timeout", "1 to 900"),
        (json!({"Timeout": 901}), "LimitExceeded.Timeout", "1 to 900"),
        (
            json!({"InitTimeout": 301}),
            "LimitExceeded.InitTimeout",
            "1 to 300",
        ),
        (
            json!({"Description": "d".repeat(1001)}),
            "InvalidParameterValue.Description",
            "1000",
        ),
        (
            json!({"Type": "Cron"}),
            "InvalidParameterValue.FunctionType",
            "Type",
        ),
        (
            json!({"InstallDependency": "MAYBE"}),
            "InvalidParameterValue",
            "InstallDependency",
        ),
        (
            json!({"AsyncRunEnable": "MAYBE"}),
            "InvalidParameterValue",
            "AsyncRunEnable",
        ),
        (
            json!({"Layers": [{"LayerName": "l", "LayerVersion": 1}]}),
            "ResourceNotFound.Layer",
            "LayerName",
        ),
        (
            json!({"Environment": {"Variables": [{"Key": "1", "Value": ""}]}}),
            "InvalidParameterValue.Environment",
            "Environment",
        ),
        (
            json!({"Environment": {"Variables": [{"Key": "SCF_X", "Value": ""}]}}),
            "InvalidParameterValue.EnvironmentSystemProtect",
            "SCF_",
        ),
        (
            json!({"Environment": {"Variables": [{"Key": "A", "Value": "x".repeat(4096)}]}}),
            "InvalidParameterValue.EnvironmentExceededLimit",
            "4096",
        ),
        (
            json!({"Environment": {"Variables": [{"Value": "x"}]}}),
            "MissingParameter",
            "Key",
        ),
        (json!({"Code": Value::Null}), "InvalidParameter", "Code"),
    ];
    for (change, code, part) in rows {
        let mut request = good.clone();
        request
            .as_object_mut()
            .expect("an object")
            .extend(change.as_object().expect("an object").clone());
        let refused = client.call("CreateFunction", &request).expect_err(part);
        assert_eq!(refused.code, code, "{change}: {}", refused.message);
        assert!(
            refused.message.contains(part),
            "{change}: {}",
            refused.message
        );
    }
    let refused = client
        .call("CreateFunction", &json!({"Code": {}}))
        .expect_err("no name");
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("MissingParameter", "FunctionName is missing")
    );
    client.ok("CreateFunction", &good);
}

#[test]
fn code_and_settings_are_changed() {
    let server = server();
    let client = server.client();
    let source = "import os\ndef main_handler(e, c):\n    return [os.environ.get('A'), c['memory_limit_in_mb']]\n";
    client.create(
        "fun",
        source,
        json!({"Environment": {"Variables": [{"Key": "A", "Value": "1"}]}}),
    );
    assert_eq!(client.answer("fun", &json!({})), json!(["1", 128]));
    let update = |fields: Value| {
        let mut request = json!({"FunctionName": "fun"});
        request
            .as_object_mut()
            .expect("an object")
            .extend(fields.as_object().expect("an object").clone());
        client.call("UpdateFunctionConfiguration", &request)
    };
    update(json!({"MemorySize": 256, "Description": "d"})).expect("changed");
    assert_eq!(
        client.answer("fun", &json!({})),
        json!(["1", 256]),
        "fields that are not named keep their values"
    );
    update(json!({"Environment": {"Variables": [{"Key": "A", "Value": "2"}]}})).expect("changed");
    assert_eq!(client.answer("fun", &json!({})), json!(["2", 256]));
    // As the tool-kit clears lists.
    update(json!({"Environment": {"Variables": [{"Key": "", "Value": ""}]}, "Layers": [{"LayerName": "", "LayerVersion": 0}]})).expect("changed");
    assert_eq!(client.answer("fun", &json!({})), json!([null, 256]));
    assert_eq!(
        update(json!({"Runtime": "Python3.99"}))
            .expect_err("fixed")
            .code,
        "InvalidParameterValue.Runtime"
    );
    update(json!({"Runtime": "Python3.6", "Publish": "FALSE"})).expect("the same");
    update(json!({"Publish": "TRUE"})).expect("published");
    let versions = client.ok(
        "ListVersionByFunction",
        &json!({"FunctionName": "fun", "Order": "ASC"}),
    );
    assert_eq!(versions["FunctionVersion"], json!(["$LATEST", "1"]));
    // Both places for the code, with another handler.
    let other = package(&[("other.py", "def run(e, c):\n    return 'other'\n")]);
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fun", "Handler": "other.run", "ZipFile": other}),
    );
    assert_eq!(client.answer("fun", &json!({})), "other");
    let third = package(&[("other.py", "def run(e, c):\n    return 'third'\n")]);
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fun", "Code": {"ZipFile": third}, "CodeSource": "ZipFile"}),
    );
    assert_eq!(client.answer("fun", &json!({})), "third");
    let shown = client.ok("GetFunction", &json!({"FunctionName": "fun"}));
    assert_eq!(
        (shown["Handler"].as_str(), shown["Description"].as_str()),
        (Some("other.run"), Some("d"))
    );
    for action in [
        "UpdateFunctionCode",
        "UpdateFunctionConfiguration",
        "GetFunction",
        "GetFunctionAddress",
        "DeleteFunction",
        "Invoke",
    ] {
        let request = json!({"FunctionName": "nobody", "ZipFile": other});
        assert_eq!(
            client.code(action, &request),
            "ResourceNotFound.Function",
            "{action}"
        );
    }
    for qualifier in ["7", "prod"] {
        let request = json!({"FunctionName": "fun", "Qualifier": qualifier});
        assert_eq!(
            client.code("Invoke", &request),
            "ResourceNotFound.Qualifier"
        );
        assert_eq!(
            client.code("GetFunction", &request),
            "ResourceNotFound.FunctionVersion"
        );
    }
    for qualifier in ["$LATEST", "$DEFAULT"] {
        client.ok(
            "Invoke",
            &json!({"FunctionName": "fun", "Qualifier": qualifier}),
        );
    }
}

#[test]
fn functions_are_listed_by_page_order_search_and_filter() {
    let server = server();
    let client = server.client();
    for name in ["cherry", "apple", "banana"] {
        client.create(
            name,
            HELLO,
            json!({"Description": format!("a {name}"), "Tags": [{"Key": "fruit", "Value": name}]}),
        );
    }
    let list = |request: Value| client.call("ListFunctions", &request);
    let by_name = list(json!({"Orderby": "FunctionName", "Order": "ASC"})).expect("a list");
    assert_eq!(names(&by_name), ["apple", "banana", "cherry"]);
    assert_eq!(by_name["TotalCount"], 3);
    let page = list(json!({"Orderby": "FunctionName", "Order": "ASC", "Offset": 1, "Limit": 1}))
        .expect("a list");
    assert_eq!(
        (names(&page), &page["TotalCount"]),
        (vec!["banana".to_owned()], &json!(3))
    );
    assert_eq!(
        names(&list(json!({"SearchKey": "an"})).expect("a list")),
        ["banana"]
    );
    assert_eq!(
        names(&list(json!({"Description": "a ch"})).expect("a list")),
        ["cherry"]
    );
    assert_eq!(
        names(
            &list(json!({"Filters": [{"Name": "tag-fruit", "Values": ["apple"]}]}))
                .expect("a list")
        ),
        ["apple"]
    );
    let filters = json!([{"Name": "Status", "Values": ["Active"]}, {"Name": "Runtime", "Values": ["Python3.6"]}, {"Name": "Type", "Values": ["Event"]}]);
    assert_eq!(
        list(json!({"Filters": filters})).expect("a list")["TotalCount"],
        3
    );
    assert_eq!(
        list(json!({"Filters": [{"Name": "Status", "Values": ["Creating"]}]})).expect("a list")["TotalCount"],
        0
    );
    assert_eq!(names(&list(json!({})).expect("a list")).len(), 3);
    let many: Vec<_> = (0..11)
        .map(|_| json!({"Name": "Status", "Values": []}))
        .collect();
    for (request, code) in [
        (json!({"Order": "UP"}), "InvalidParameterValue.Order"),
        (json!({"Orderby": "Size"}), "InvalidParameterValue.OrderBy"),
        (json!({"Offset": -1}), "InvalidParameterValue.Offset"),
        (json!({"Limit": 1000}), "InvalidParameterValue.Limit"),
        (
            json!({"Filters": [{"Name": "Colour", "Values": []}]}),
            "InvalidParameterValue.Filters",
        ),
        (json!({"Filters": many}), "InvalidParameterValue.Filters"),
        (
            json!({"Namespace": "nowhere"}),
            "ResourceNotFound.Namespace",
        ),
    ] {
        assert_eq!(
            list(request.clone()).expect_err("refused").code,
            code,
            "{request}"
        );
    }
}

#[test]
fn a_copy_is_a_function_of_its_own() {
    let server = server();
    let client = server.client();
    client.create(
        "one",
        HELLO,
        json!({"MemorySize": 256, "Description": "first"}),
    );
    client.ok("CreateNamespace", &json!({"Namespace": "other"}));
    client.ok(
        "CopyFunction",
        &json!({"FunctionName": "one", "NewFunctionName": "two", "TargetNamespace": "other"}),
    );
    let two = json!({"FunctionName": "two", "Namespace": "other"});
    let shown = client.ok("GetFunction", &two);
    assert_eq!(
        (&shown["MemorySize"], &shown["Description"]),
        (&json!(256), &json!("first"))
    );
    client.ok("DeleteFunction", &json!({"FunctionName": "one"}));
    assert_eq!(client.ok("Invoke", &two)["Result"]["RetMsg"], "\"hello\"");
    client.create(
        "one",
        "def main_handler(e, c):\n    return 'new'\n",
        json!({}),
    );
    let onto = |more: Value| {
        let mut request =
            json!({"FunctionName": "one", "NewFunctionName": "two", "TargetNamespace": "other"});
        request
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        client.code("CopyFunction", &request)
    };
    assert_eq!(onto(json!({})), "ResourceInUse.FunctionName");
    assert_eq!(
        onto(json!({"TargetRegion": "ap-moon"})),
        "UnsupportedOperation.Region"
    );
    assert_eq!(
        onto(json!({"Override": true, "CopyConfiguration": false})),
        ""
    );
    assert_eq!(client.ok("Invoke", &two)["Result"]["RetMsg"], "\"new\"");
    assert_eq!(
        client.ok("GetFunction", &two)["MemorySize"],
        256,
        "its own settings stay"
    );
}

#[test]
fn namespaces_hold_functions_apart() {
    let server = server();
    let client = server.client();
    let list = || {
        let answer = client.ok("ListNamespaces", &json!({}));
        let all = answer["Namespaces"].as_array().expect("a list").clone();
        all.iter()
            .map(|n| n["Name"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(), ["default"]);
    client.ok(
        "CreateNamespace",
        &json!({"Namespace": "test", "Description": "for tests"}),
    );
    assert_eq!(
        client.code("CreateNamespace", &json!({"Namespace": "test"})),
        "ResourceInUse.Namespace"
    );
    client.ok(
        "UpdateNamespace",
        &json!({"Namespace": "test", "Description": "changed"}),
    );
    assert_eq!(
        client.code(
            "UpdateNamespace",
            &json!({"Namespace": "nope", "Description": ""})
        ),
        "ResourceNotFound.Namespace"
    );
    client.create("same", HELLO, json!({}));
    client.create(
        "same",
        "def main_handler(e, c):\n    return c['namespace']\n",
        json!({"Namespace": "test"}),
    );
    assert_eq!(client.answer("same", &json!({})), "hello");
    assert_eq!(
        client.ok(
            "Invoke",
            &json!({"FunctionName": "same", "Namespace": "test"})
        )["Result"]["RetMsg"],
        "\"test\""
    );
    assert_eq!(
        client.code("DeleteNamespace", &json!({"Namespace": "test"})),
        "ResourceInUse.Namespace"
    );
    client.ok(
        "DeleteFunction",
        &json!({"FunctionName": "same", "Namespace": "test"}),
    );
    client.ok("DeleteNamespace", &json!({"Namespace": "test"}));
    assert_eq!(
        client.code("DeleteNamespace", &json!({"Namespace": "default"})),
        "InvalidParameterValue.DefaultNamespace"
    );
    assert_eq!(
        client.code(
            "Invoke",
            &json!({"FunctionName": "same", "Namespace": "test"})
        ),
        "ResourceNotFound.Namespace"
    );
    for number in 1..5 {
        client.ok(
            "CreateNamespace",
            &json!({"Namespace": format!("n{number}")}),
        );
    }
    assert_eq!(
        client.code("CreateNamespace", &json!({"Namespace": "n5"})),
        "LimitExceeded.Namespace"
    );
    assert_eq!(list(), ["default", "n1", "n2", "n3", "n4"]);
}

#[test]
fn quotas_are_configured() {
    let server = Server::flags(
        VIRGA,
        &[
            "--limits",
            "functions_per_namespace=1,memory_max_mb=256,timeout_max_s=10",
        ],
    );
    let client: Client = server.client();
    client.create("one", HELLO, json!({"MemorySize": 256, "Timeout": 10}));
    let two = json!({"FunctionName": "two", "Runtime": "Python3.6", "Code": {"ZipFile": package(&[("index.py", HELLO)])}});
    assert_eq!(
        client.code("CreateFunction", &two),
        "LimitExceeded.Function"
    );
    assert_eq!(
        client.code(
            "UpdateFunctionConfiguration",
            &json!({"FunctionName": "one", "MemorySize": 384})
        ),
        "InvalidParameterValue.MemorySize"
    );
}
