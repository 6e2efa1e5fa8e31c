//! Only the gateway's `error.rs`, with the files below `error/`, chooses the API's error codes. Everything else names a reason.

use std::path::{Path, PathBuf};

use super::ROOT;
use super::modules::without_tests;
use super::sizes::sources;
use super::tokens::tokens;

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
    assert!(
        found.is_empty(),
        "these choose codes; give control::Reason, or a function of error.rs: {found:?}"
    );
}
