//! Only the gateway's `error.rs`, with the files below `error/`, chooses the API's error codes. Everything else names a reason.

use std::path::{Path, PathBuf};

use super::ROOT;
use super::modules::without_tests;
use super::sizes::sources;
use super::tokens::tokens;

/// Files that still choose codes, and why. The list only shrinks.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("domains.rs", CONTROL),
    ("namespaces.rs", CONTROL),
    ("operator/accounts.rs", CONTROL),
    ("operator/keys.rs", CONTROL),
    ("operator/roles.rs", CONTROL),
    ("tags/change.rs", CONTROL),
    ("tags/edit.rs", CONTROL),
    ("tags/list.rs", CONTROL),
    ("tags/mod.rs", CONTROL),
];

/// The operation is not in `control` yet.
const CONTROL: &str = "its checks will move to control";

#[test]
fn only_error_rs_chooses_error_codes() {
    let root = PathBuf::from(format!("{ROOT}/crates/gateway-scf/src"));
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources were not found");
    let names = |file: &Path| {
        file.strip_prefix(&root)
            .expect("below")
            .display()
            .to_string()
    };
    let chooses = |file: &&PathBuf| {
        let text = std::fs::read_to_string(file).expect("a source");
        let tokens = tokens(&text);
        let tokens = without_tests(&tokens);
        let mut pairs = tokens.windows(2);
        pairs.any(|pair| pair == ["Code", "::"])
    };
    let own = |name: &String| name == "error.rs" || name.starts_with("error/");
    let tests = |name: &String| name.ends_with("tests.rs") || name == "probe.rs";
    let found: Vec<_> = files
        .iter()
        .filter(chooses)
        .map(|file| names(file))
        .collect();
    let found: Vec<_> = found
        .into_iter()
        .filter(|name| !own(name) && !tests(name))
        .collect();
    let excepted = |name: &String| EXCEPTIONS.iter().any(|(file, _)| file == name);
    let new: Vec<_> = found.iter().filter(|name| !excepted(name)).collect();
    assert!(
        new.is_empty(),
        "these choose codes; give control::Reason, or a function of error.rs: {new:?}"
    );
    for (file, _) in EXCEPTIONS {
        let still = found.iter().any(|name| name == file);
        assert!(still, "{file} chooses no code: remove the exception");
    }
}
