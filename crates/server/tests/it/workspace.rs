//! The house's own rules.

mod circles;
mod codes;
mod modules;
mod runtimes;
mod sizes;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Which crate may know which; the complete list.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("scf", &[]),
    ("bucket", &[]),
    ("catalog", &["model", "seal"]),
    ("dispatch", &["model"]),
    ("nats-server", &[]),
    ("replica", &["seal"]),
    ("sandbox", &[]),
    ("seal", &[]),
    ("worker", &["model", "sandbox"]),
    ("clock", &["model"]),
    ("hosts", &["model", "sandbox"]),
    ("operator", &["scf"]),
    ("tls", &["hosts"]),
    ("telemetry", &["clock", "model"]),
    ("traffic", &["model", "telemetry", "tls"]),
    ("access", &["catalog", "clock", "model"]),
    ("signing", &["access", "model", "operator", "scf"]),
    (
        "events",
        &["clock", "dispatch", "model", "replica", "telemetry"],
    ),
    (
        "engine",
        &[
            "access",
            "catalog",
            "clock",
            "dispatch",
            "events",
            "model",
            "telemetry",
            "traffic",
            "worker",
        ],
    ),
    (
        "purge",
        &[
            "bucket",
            "catalog",
            "clock",
            "engine",
            "events",
            "model",
            "telemetry",
            "worker",
        ],
    ),
    (
        "control",
        &[
            "access",
            "bucket",
            "catalog",
            "clock",
            "dispatch",
            "engine",
            "events",
            "hosts",
            "model",
            "ownership",
            "purge",
            "telemetry",
            "traffic",
            "worker",
        ],
    ),
    ("ownership", &["catalog", "clock", "hosts", "model"]),
    (
        "triggers",
        &[
            "bucket",
            "catalog",
            "clock",
            "dispatch",
            "engine",
            "events",
            "model",
            "telemetry",
        ],
    ),
    (
        "urls",
        &[
            "access",
            "catalog",
            "clock",
            "engine",
            "hosts",
            "model",
            "ownership",
            "scf",
            "signing",
            "telemetry",
            "traffic",
            "worker",
        ],
    ),
    (
        "gateway-cos",
        &[
            "access",
            "bucket",
            "model",
            "sandbox",
            "telemetry",
            "traffic",
        ],
    ),
    (
        "gateway-scf",
        &[
            "access",
            "catalog",
            "clock",
            "control",
            "dispatch",
            "engine",
            "events",
            "hosts",
            "model",
            "operator",
            "sandbox",
            "scf",
            "signing",
            "telemetry",
            "traffic",
            "triggers",
            "worker",
        ],
    ),
    ("cli", &["clock", "model", "operator", "scf"]),
    (
        "server",
        &[
            "access",
            "bucket",
            "catalog",
            "cli",
            "clock",
            "control",
            "dispatch",
            "engine",
            "events",
            "gateway-cos",
            "gateway-scf",
            "hosts",
            "model",
            "operator",
            "ownership",
            "purge",
            "sandbox",
            "scf",
            "telemetry",
            "tls",
            "traffic",
            "triggers",
            "urls",
            "worker",
        ],
    ),
    ("fuzzer", &["seeded"]),
    ("seeded", &[]),
    ("testkit", &["scf", "seeded"]),
    ("testlog", &["nats-server", "replica", "seeded"]),
];

#[test]
fn crates_depend_only_on_allowed_crates() {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(ROOT)
        .output()
        .expect("cargo");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    let names: Vec<_> = packages
        .iter()
        .map(|package| package["name"].as_str().expect("a name"))
        .collect();
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the list"));
        for dependency in package["dependencies"].as_array().expect("a list") {
            let (on, kind) = (
                dependency["name"].as_str().expect("a name"),
                &dependency["kind"],
            );
            let ours = names.contains(&on);
            assert!(
                !ours || kind == "dev" || may.contains(&on),
                "{name} must not know {on}"
            );
        }
    }
}

#[test]
fn reference_page_matches_the_binary() {
    let output = Command::new(crate::VIRGA)
        .arg("reference")
        .output()
        .expect("the binary");
    let said = String::from_utf8(output.stdout).expect("text");
    let page = std::fs::read_to_string(format!("{ROOT}/docs/configuration.md")).expect("the page");
    assert!(
        page.contains(said.trim()),
        "docs/configuration.md is not what `virga reference` prints:\n{said}"
    );
}

#[test]
fn page_of_fields_lists_every_field_of_every_action() {
    let published = [
        include_str!("../../../scf/tests/api-2018-04-16.json"),
        include_str!("../../../scf/tests/tag-2018-08-13.json"),
    ];
    let published = published.map(|text| serde_json::from_str::<Value>(text).expect("JSON"));
    let page = std::fs::read_to_string(format!("{ROOT}/docs/fields.md")).expect("the page");
    let mut rows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let mut names = line.split('`').skip(1).step_by(2);
        let action = names.next().expect("an action");
        let mut fields = BTreeSet::new();
        for field in names {
            assert!(fields.insert(field), "{action}: {field} is there twice");
        }
        assert!(
            rows.insert(action, fields).is_none(),
            "{action} is there twice"
        );
    }
    let actions = published
        .iter()
        .flat_map(|one| one["actions"].as_object().expect("actions"));
    let more = include_str!("../../../scf/tests/unpublished.json");
    let more: Value = serde_json::from_str(more).expect("JSON");
    let wanted = actions.map(|(action, one)| {
        let fields = one["request"].as_object().expect("fields").keys();
        let more = more["requests"][action].as_object();
        let more = more.into_iter().flat_map(|fields| fields.keys());
        (
            action.as_str(),
            fields.chain(more).map(String::as_str).collect(),
        )
    });
    assert_eq!(rows, wanted.collect());
}
