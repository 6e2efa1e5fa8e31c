//! Code with installed dependencies: its archive, from which the tree is unpacked when it is lost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually, package};

use crate::VIRGA;
use crate::packages::BACKEND;

/// A package with a dependency that needs no index. `more` makes it another one.
fn asks(more: &str) -> String {
    package(&[
        (
            "index.py",
            "import dependency, os\ndef main_handler(e, c):\n    return [dependency.VALUE, os.path.exists('more')]\n",
        ),
        ("more", more),
        ("requirements.txt", "./source\n"),
        (
            "source/pyproject.toml",
            "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n",
        ),
        ("source/backend.py", BACKEND),
    ])
}

fn create(client: &Client, name: &str, more: &str) {
    client.ok("CreateFunction", &json!({
        "FunctionName": name, "Runtime": "Python3.9", "InstallDependency": "TRUE", "Code": {"ZipFile": asks(more)},
    }));
    let shown = client.wait_until_ready(name);
    assert_eq!(shown["Status"], "Active", "{shown}");
}

fn answer(client: &Client, name: &str) -> Value {
    client.answer(name, &json!({}))
}

/// The files of a directory of the package store.
fn files(server: &Server, directory: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(server.data().join("code").join(directory)).expect("a directory");
    let paths = listed.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| !path.ends_with(".boot")).collect()
}

/// Removes all that a directory of the store holds.
fn lose(server: &Server, directory: &str) {
    for path in files(server, directory) {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.expect("removed");
    }
}

fn works() -> Value {
    json!([42, true])
}

#[test]
fn lost_tree_is_unpacked_from_its_archive_without_an_installer() {
    let mut server = crate::server();
    create(&server.client(), "fun", "1");
    server
        .client()
        .ok("PublishVersion", &json!({"FunctionName": "fun"}));
    assert_eq!(answer(&server.client(), "fun"), works());
    assert!(server.terminate().success());
    lose(&server, "trees");
    // Nothing is left that could be installed again.
    lose(&server, "packages");
    server.restart();
    assert_eq!(answer(&server.client(), "fun"), works());
    let published = json!({"FunctionName": "fun", "Qualifier": "1"});
    let called = server.client().ok("Invoke", &published);
    assert_eq!(called["Result"]["InvokeResult"], 0, "{called}");
}

#[test]
fn damaged_archive_is_never_run_until_it_is_installed_again() {
    let mut server = Server::with(
        VIRGA,
        Options {
            errors: true,
            ..Options::default()
        },
    );
    create(&server.client(), "fun", "1");
    assert_eq!(answer(&server.client(), "fun"), works());
    assert!(server.terminate().success());
    lose(&server, "trees");
    let [archive] = &files(&server, "archives")[..] else {
        panic!("one archive");
    };
    let mut bytes = fs::read(archive).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(archive, bytes).expect("damaged");
    server.restart();
    for _ in 0..2 {
        let refused = server
            .client()
            .call("Invoke", &json!({"FunctionName": "fun"}))
            .expect_err("damaged");
        assert_eq!(refused.code, "FailedOperation.InvokeFunction");
        let why = &refused.message;
        assert!(
            why.contains("is damaged") && why.contains("deploy the code again"),
            "{why}"
        );
        assert_eq!(files(&server, "trees"), Vec::<PathBuf>::new());
    }
    assert!(server.log().contains("\"level\":\"ERROR\""), "it is logged");
    let client = server.client();
    client.ok(
        "UpdateFunctionCode",
        &json!({"FunctionName": "fun", "InstallDependency": "TRUE", "ZipFile": asks("1")}),
    );
    let shown = client.wait_until_ready("fun");
    assert_eq!(shown["Status"], "Active", "{shown}");
    assert_eq!(answer(&client, "fun"), works());
}

#[test]
fn tree_that_an_earlier_version_installed_is_archived() {
    let mut server = crate::server();
    create(&server.client(), "fun", "1");
    server
        .client()
        .ok("PublishVersion", &json!({"FunctionName": "fun"}));
    assert!(server.terminate().success());
    // An earlier version stored the tree alone.
    lose(&server, "archives");
    server.restart();
    assert_eq!(answer(&server.client(), "fun"), works());
    eventually("it is archived", || {
        server.log().contains("archived installed trees")
    });
    assert!(server.terminate().success());
    lose(&server, "trees");
    lose(&server, "packages");
    server.restart();
    assert_eq!(answer(&server.client(), "fun"), works());
    let published = json!({"FunctionName": "fun", "Qualifier": "1"});
    assert_eq!(
        server.client().ok("Invoke", &published)["Result"]["InvokeResult"],
        0
    );
}

#[test]
fn archive_goes_with_its_function() {
    let mut server = crate::server();
    let client = server.client();
    create(&client, "stays", "1");
    create(&client, "goes", "2");
    assert_eq!(files(&server, "archives").len(), 2);
    client.ok("DeleteFunction", &json!({"FunctionName": "goes"}));
    assert!(server.terminate().success());
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    let make_old = |path: &Path| {
        let file = File::open(path).expect("opened");
        file.set_modified(old).expect("set");
    };
    for directory in ["archives", "trees"] {
        files(&server, directory)
            .iter()
            .for_each(|path| make_old(path));
    }
    server.restart();
    // The other has a tree of its package, and one with its dependencies.
    eventually("one is gone", || {
        files(&server, "archives").len() == 1 && files(&server, "trees").len() == 2
    });
    assert_eq!(answer(&server.client(), "stays"), works());
}

#[test]
fn tree_lost_while_virga_runs_is_unpacked_for_the_next_start() {
    let server = crate::server();
    let client = server.client();
    for name in ["one", "two"] {
        let files = package(&[(&format!("{name}.py"), "WORD = 'layer'\n")]);
        client.ok(
            "PublishLayerVersion",
            &json!({"LayerName": name, "CompatibleRuntimes": ["Python3.6"], "Content": {"ZipFile": files}}),
        );
    }
    let layers: Vec<_> = ["one", "two"]
        .map(|name| json!({"LayerName": name, "LayerVersion": 1}))
        .into();
    let source = "import os\ndef main_handler(e, c):\n    if e: os._exit(3)\n    import one, two\n    return [one.WORD, two.WORD]\n";
    client.create("fun", source, json!({"Layers": layers}));
    let works = json!(["layer", "layer"]);
    assert_eq!(client.answer("fun", &json!({})), works);
    // The pool stays open; its next instance is started with the same specification.
    assert_ne!(
        client.invoke("fun", &json!({"end": true}))["InvokeResult"],
        0
    );
    for directory in ["merged", "trees"] {
        lose(&server, directory);
    }
    assert_eq!(client.answer("fun", &json!({})), works);
}
