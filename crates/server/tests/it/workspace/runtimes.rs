//! A runtime is named in its own files: other code asks its description, or how it runs, and never which one it is.

use std::path::Path;

use super::ROOT;
use super::sizes::sources;

/// Files that may name a language, by a part of their path, and why.
const NAMED: &[(&str, &str)] = &[
    ("model/src/runtime/", "descriptions"),
    ("worker/src/runtime/", "how each runs"),
    (
        "server/src/app/settings.rs",
        "the options that name interpreters",
    ),
    ("cli/src/", "the guess for a file that is deployed"),
];

#[test]
fn runtimes_are_named_in_their_own_files_alone() {
    let list = format!("{ROOT}/crates/model/src/runtime/language.rs");
    let list = std::fs::read_to_string(list).expect("the list of languages");
    // A line of the list, such as `Python = python::PYTHON,`.
    let languages: Vec<_> = list
        .lines()
        .filter_map(|line| line.strip_suffix(',')?.split_once(" = "))
        .map(|(name, _)| format!("Language::{}", name.trim()))
        .collect();
    assert!(languages.len() > 2, "{languages:?}");
    let mut files = Vec::new();
    sources(Path::new(&format!("{ROOT}/crates")), &mut files);
    let mut found = Vec::new();
    for file in files {
        let path = file.to_string_lossy();
        if !path.contains("/src/") || NAMED.iter().any(|(part, _)| path.contains(part)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let named = languages.iter().filter(|name| text.contains(*name));
        found.extend(named.map(|name| format!("{path}: {name}")));
    }
    assert!(found.is_empty(), "runtimes are named in: {found:#?}");
}
