//! No file over 600 lines without a reason in its first lines. Functions are measured by clippy (`clippy.toml`).

use std::path::{Path, PathBuf};

use super::ROOT;

/// Lines of a file that needs no reason.
const LINES: usize = 600;
/// The words with which a reason begins.
const REASON: &str = "Long because";

#[test]
fn no_long_file_without_a_reason() {
    let mut files = Vec::new();
    sources(Path::new(&format!("{ROOT}/crates")), &mut files);
    assert!(files.len() > 100, "the sources were not found");
    let is_long = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("a source");
        let mut first = text.lines().take(10);
        text.lines().count() > LINES && !first.any(|line| line.contains(REASON))
    };
    let long: Vec<_> = files.into_iter().filter(is_long).collect();
    assert!(
        long.is_empty(),
        "over {LINES} lines; split it by idea, or say in its first lines \"{REASON} …\": {long:?}"
    );
}

/// Adds the Rust files below a directory.
pub(super) fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
