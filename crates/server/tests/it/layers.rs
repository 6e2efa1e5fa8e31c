//! Layers: what functions share.

use serde_json::{Value, json};
use testkit::{Client, package};

use crate::packages::BACKEND;
use crate::server;

const USES: &str = "import os, sys\ndef main_handler(e, c):\n    import shared\n    return [shared.WORD, sorted(os.listdir('/opt')), shared.__file__]\n";

fn publish(client: &Client, name: &str, files: &[(&str, &str)]) -> u64 {
    let request = json!({
        "LayerName": name, "CompatibleRuntimes": ["Python3.6"], "Content": {"ZipFile": package(files)},
        "Description": "of a test", "LicenseInfo": "MIT",
    });
    let answer = client.ok("PublishLayerVersion", &request);
    answer["LayerVersion"].as_u64().expect("a number")
}

fn hold(client: &Client, layers: &[(&str, u64)]) {
    let layers: Vec<_> = layers
        .iter()
        .map(|(name, version)| json!({"LayerName": name, "LayerVersion": version}))
        .collect();
    let request = json!({"FunctionName": "holder", "Layers": layers});
    client.ok("UpdateFunctionConfiguration", &request);
}

#[test]
fn layers_are_merged_into_opt_in_order_and_on_the_python_path() {
    let server = server();
    let client = server.client();
    assert_eq!(
        publish(
            &client,
            "base",
            &[("shared.py", "WORD = 'base'\n"), ("only-base", "")]
        ),
        1
    );
    assert_eq!(
        publish(&client, "base", &[("shared.py", "WORD = 'newer'\n")]),
        2
    );
    assert_eq!(
        publish(
            &client,
            "over",
            &[("shared.py", "WORD = 'over'\n"), ("only-over", "")]
        ),
        1
    );
    publish(
        &client,
        "below",
        &[("python/shared.py", "WORD = 'below'\n")],
    );
    let layers = json!({"Layers": [{"LayerName": "base", "LayerVersion": 1}]});
    client.create("holder", USES, layers);
    let answer = || client.answer("holder", &json!({}));
    // Python's own directory of what it has compiled may be there, too.
    let seen = |expected: &[&str]| {
        let found = answer();
        let names = found[1].as_array().expect("a list");
        assert!(
            expected.iter().all(|name| names.contains(&json!(name))),
            "{found}"
        );
        found[0].as_str().expect("text").to_owned()
    };
    assert_eq!(seen(&["only-base", "shared.py"]), "base");
    assert_eq!(answer()[2], "/opt/shared.py");
    hold(&client, &[("base", 1), ("over", 1)]);
    assert_eq!(seen(&["only-base", "only-over"]), "over");
    hold(&client, &[("over", 1), ("base", 1)]);
    assert_eq!(seen(&["only-base", "only-over"]), "base");
    hold(&client, &[("base", 2)]);
    assert_eq!(seen(&[]), "newer");
    hold(&client, &[("below", 1)]);
    assert_eq!(seen(&["python"]), "below");
    let shown = client.ok("GetFunction", &json!({"FunctionName": "holder"}));
    assert_eq!(shown["Layers"][0]["LayerName"], "below");
    assert_eq!(shown["Layers"][0]["Status"], "Active");
    // As the tool-kit clears the list.
    hold(&client, &[("", 0)]);
    let failed = client.invoke("holder", &json!({}));
    assert!(
        failed["ErrMsg"]
            .as_str()
            .expect("text")
            .contains("No module named"),
        "{failed}"
    );
}

#[test]
fn deleted_layer_version_serves_its_functions_and_its_number_is_not_reused() {
    let mut server = server();
    let client = server.client();
    publish(&client, "base", &[("shared.py", "WORD = 'one'\n")]);
    publish(&client, "over", &[("other.py", "")]);
    let layers =
        json!([{"LayerName": "base", "LayerVersion": 1}, {"LayerName": "over", "LayerVersion": 1}]);
    client.create("holder", USES, json!({"Layers": layers}));
    let word = |client: &Client| client.answer("holder", &json!({}))[0].clone();
    assert_eq!(word(&client), "one");
    let one = json!({"LayerName": "base", "LayerVersion": 1});
    client.ok("DeleteLayerVersion", &one);
    assert_eq!(
        client.code("GetLayerVersion", &one),
        "ResourceNotFound.Layer"
    );
    assert_eq!(
        client.code("DeleteLayerVersion", &one),
        "ResourceNotFound.Layer"
    );
    let listed = client.ok("ListLayers", &json!({}));
    assert_eq!(
        (&listed["TotalCount"], &listed["Layers"][0]["LayerName"]),
        (&json!(1), &json!("over"))
    );
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(word(&client), "one");
    // It can be kept beside a change, but not be given to another.
    client.ok(
        "UpdateFunctionConfiguration",
        &json!({"FunctionName": "holder", "MemorySize": 256, "Layers": layers}),
    );
    assert_eq!(word(&client), "one");
    let other = json!({"FunctionName": "other", "Runtime": "Python3.6", "Layers": [one], "Code": {"ZipFile": package(&[("index.py", USES)])}});
    assert_eq!(
        client.code("CreateFunction", &other),
        "ResourceNotFound.Layer"
    );
    let shown = client.ok("GetFunction", &json!({"FunctionName": "holder"}));
    assert_eq!(shown["Layers"][0]["Status"], "Deleted");
    assert_eq!(publish(&client, "base", &[("shared.py", "")]), 2);
    assert_eq!(
        client.code("GetLayerVersion", &one),
        "ResourceNotFound.LayerVersion"
    );
    let two = client.ok(
        "GetLayerVersion",
        &json!({"LayerName": "base", "LayerVersion": 2}),
    );
    let location = two["Location"].as_str().expect("a URL");
    let path = location.strip_prefix(&client.endpoint).expect("here");
    assert_eq!(client.send("GET", path, &[], b"").status, 200);
}

#[test]
fn invalid_layers_and_layer_references_are_refused() {
    let server = testkit::Server::flags(
        crate::VIRGA,
        &[
            "--limits",
            "layers=2,versions_per_layer=2,layers_per_function=2,unpacked_bytes=4000",
        ],
    );
    let client = server.client();
    let zip = package(&[("shared.py", &"#".repeat(1500))]);
    let layer = |name: &str, runtimes: Value| json!({"LayerName": name, "CompatibleRuntimes": runtimes, "Content": {"ZipFile": zip}});
    let fine = || json!(["Python3.6"]);
    for name in ["one", "two"] {
        client.ok("PublishLayerVersion", &layer(name, fine()));
    }
    client.ok("PublishLayerVersion", &layer("one", json!(["Nodejs16.13"])));
    let function = |layers: Value| json!({"FunctionName": "holder", "Runtime": "Python3.6", "Layers": layers, "Code": {"ZipFile": zip}});
    let held = |name: &str, version: i64| json!({"LayerName": name, "LayerVersion": version});
    let rows = [
        (
            "PublishLayerVersion",
            layer("three", fine()),
            "LimitExceeded.Layers",
        ),
        (
            "PublishLayerVersion",
            layer("one", fine()),
            "LimitExceeded.LayerVersions",
        ),
        (
            "PublishLayerVersion",
            layer("-", fine()),
            "InvalidParameterValue.LayerName",
        ),
        (
            "PublishLayerVersion",
            layer("two", json!([])),
            "InvalidParameterValue",
        ),
        (
            "PublishLayerVersion",
            json!({"LayerName": "two", "CompatibleRuntimes": fine(), "Content": {"ZipFile": "eA=="}}),
            "InvalidParameterValue.ZipFile",
        ),
        (
            "ListLayerVersions",
            json!({"LayerName": "none"}),
            "ResourceNotFound.Layer",
        ),
        (
            "ListLayers",
            json!({"Limit": -1}),
            "InvalidParameterValue.Limit",
        ),
        (
            "CreateFunction",
            function(json!([held("none", 1)])),
            "ResourceNotFound.Layer",
        ),
        (
            "CreateFunction",
            function(json!([held("two", 2)])),
            "ResourceNotFound.LayerVersion",
        ),
        (
            "CreateFunction",
            function(json!([held("one", 2)])),
            "InvalidParameterValue.Layers",
        ),
        (
            "CreateFunction",
            function(json!([held("one", 1), held("one", 1)])),
            "InvalidParameterValue.Layers",
        ),
        (
            "CreateFunction",
            function(json!([held("one", 1), held("two", 1), held("none", 1)])),
            "LimitExceeded.Layers",
        ),
        // The code and both layers together are over the limit of unpacked bytes.
        (
            "CreateFunction",
            function(json!([held("one", 1), held("two", 1)])),
            "InvalidParameterValue.Layers",
        ),
    ];
    for (action, request, code) in rows {
        assert_eq!(client.code(action, &request), code, "{action} {request}");
    }
    client.ok("CreateFunction", &function(json!([held("one", 1)])));
    let versions = client.ok(
        "ListLayerVersions",
        &json!({"LayerName": "one", "CompatibleRuntime": ["Nodejs16.13"]}),
    );
    assert_eq!(versions["LayerVersions"].as_array().map(Vec::len), Some(1));
    let listed = client.ok(
        "ListLayers",
        &json!({"CompatibleRuntime": "Python3.6", "SearchKey": "on"}),
    );
    assert_eq!(listed["Layers"][0]["LayerVersion"], 1);
}

/// A package that asks for a library beside it, as pip reads it.
fn asks_for_python() -> String {
    package(&[
        ("requirements.txt", "./source\n"),
        (
            "source/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        ),
        ("source/backend.py", BACKEND),
    ])
}

/// The same for npm. Its install script shows that it runs, and as whom.
const ASKS_FOR_NODE: [(&str, &str); 3] = [
    (
        "package.json",
        r#"{"private": true, "dependencies": {"library": "file:./library"}}"#,
    ),
    (
        "library/package.json",
        r#"{"name": "library", "version": "1.0.0", "scripts": {"install": "id -u > built-by"}}"#,
    ),
    ("library/index.js", "exports.value = 42;\n"),
];

fn build(client: &Client, name: &str, runtime: &str, zip_file: &str) -> Value {
    let request = json!({"LayerName": name, "Runtime": runtime, "ZipFile": zip_file});
    client.operate("BuildLayer", &request).expect("a layer")
}

#[test]
fn layer_of_libraries_is_built_from_a_requirements_list() {
    let mut server = server();
    let client = server.client();
    let built = build(&client, "python", "Python3.9", &asks_for_python());
    assert_eq!(
        (&built["LayerVersion"], &built["Runtime"]),
        (&json!(1), &json!("Python3.9"))
    );
    let log = built["Log"].as_str().expect("a log");
    assert!(
        log.contains("Successfully installed dependency-1.0"),
        "{log}"
    );
    let uses = "import dependency\ndef main_handler(e, c):\n    return [dependency.VALUE, dependency.__file__]\n";
    let layers = json!([{"LayerName": "python", "LayerVersion": 1}]);
    client.create(
        "uses",
        uses,
        json!({"Runtime": "Python3.9", "Layers": layers}),
    );
    let expected = json!([42, "/opt/dependency.py"]);
    assert_eq!(client.answer("uses", &json!({})), expected);
    // It is stored as a package, too: the unpacked tree can be lost.
    let shown = client.ok(
        "GetLayerVersion",
        &json!({"LayerName": "python", "LayerVersion": 1}),
    );
    let location = shown["Location"].as_str().expect("a URL");
    let path = &location[location.find("/packages/").expect("a path")..];
    assert_eq!(client.get(path).status, 200);
    assert!(server.terminate().success());
    let trees = server.data().join("code/trees");
    let digest = shown["CodeSha256"].as_str().expect("a digest");
    std::fs::remove_dir_all(trees.join(digest)).expect("removed");
    server.restart();
    assert_eq!(server.client().answer("uses", &json!({})), expected);
}

#[test]
fn libraries_of_node_js_are_installed_by_npm_into_layers_and_packages() {
    let server = server();
    let client = server.client();
    build(&client, "node", "Nodejs18.15", &package(&ASKS_FOR_NODE));
    let handler = "const fs = require('fs');\nexports.main_handler = async () => [require('library').value, \
                   fs.readFileSync(require.resolve('library/built-by'), 'utf8').trim() !== '0'];\n";
    let create = |name: &str, zip_file: &str, more: Value| {
        let mut request =
            json!({"FunctionName": name, "Runtime": "Nodejs18.15", "Code": {"ZipFile": zip_file}});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        client.ok("CreateFunction", &request);
        let shown = client.wait_until_ready(name);
        assert_eq!(shown["Status"], "Active", "{shown}");
    };
    let layers = json!({"Layers": [{"LayerName": "node", "LayerVersion": 1}]});
    create("uses", &package(&[("index.js", handler)]), layers);
    assert_eq!(client.answer("uses", &json!({})), json!([42, true]));
    // A function's own package.json is installed in the same way.
    let own = [&[("index.js", handler)][..], &ASKS_FOR_NODE].concat();
    create("own", &package(&own), json!({"InstallDependency": "TRUE"}));
    assert_eq!(client.answer("own", &json!({})), json!([42, true]));
}

#[test]
fn layer_build_failure_is_reported_with_its_reason() {
    let server = server();
    let client = server.client();
    let wrong = package(&[("requirements.txt", "./nowhere\n")]);
    for (name, runtime, zip_file, code, why) in [
        (
            "a",
            "Python3.9",
            &wrong[..],
            "FailedOperation",
            "pip failed",
        ),
        (
            "a",
            "Python3.9",
            "no package",
            "InvalidParameterValue.ZipFile",
            "ZipFile",
        ),
        (
            "a",
            "CustomRuntime",
            &wrong,
            "InvalidParameterValue.Runtime",
            "package manager",
        ),
        (
            "a",
            "Ruby2.7",
            &wrong,
            "InvalidParameterValue.Runtime",
            "Ruby2.7",
        ),
        (
            "-",
            "Python3.9",
            &wrong,
            "InvalidParameterValue",
            "LayerName",
        ),
    ] {
        let request = json!({"LayerName": name, "Runtime": runtime, "ZipFile": zip_file});
        let refused = client.operate("BuildLayer", &request).expect_err("refused");
        assert!(
            refused.code.starts_with(code),
            "{runtime}: {}",
            refused.code
        );
        assert!(refused.message.contains(why), "{}", refused.message);
    }
    let listed = client.ok("ListLayers", &json!({}));
    assert_eq!(listed["TotalCount"], 0);
}

#[test]
fn the_command_line_attaches_layers_by_name() {
    let server = server();
    let client = server.client();
    let runtimes = json!(["Python3.9"]);
    for word in ["first", "second"] {
        let file = format!("WORD = '{word}'\n");
        let content = json!({"ZipFile": package(&[("shared.py", &file)])});
        let request =
            json!({"LayerName": "words", "CompatibleRuntimes": runtimes, "Content": content});
        client.ok("PublishLayerVersion", &request);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("holds");
    std::fs::create_dir(&source).expect("made");
    let code = "import shared\ndef main_handler(e, c):\n    return shared.WORD\n";
    std::fs::write(source.join("index.py"), code).expect("written");
    let path = source.to_str().expect("a path");
    let deploy = |more: &[&str]| {
        let words = [&["deploy", path, "--yes", "--runtime", "Python3.9"], more].concat();
        let output = server.cli(&words);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    for (layer, word) in [("words", "second"), ("words:1", "first")] {
        let (code, stderr) = deploy(&["--layer", layer]);
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(client.answer("holds", &json!({})), word, "{layer}");
    }
    // Without the flag it keeps what it has.
    assert_eq!(deploy(&[]).0, Some(0));
    assert_eq!(client.answer("holds", &json!({})), "first");
    let (code, stderr) = deploy(&["--layer", "words:x"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("NAME:VERSION"), "{stderr}");
    let (code, stderr) = deploy(&["--layer", "nowhere"]);
    assert_eq!(code, Some(3), "{stderr}");
    let listed = server.cli(&["layer", "list", "--text"]).stdout;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    assert!(
        listed.contains("words") && listed.contains("Python3.9"),
        "{listed}"
    );
}
