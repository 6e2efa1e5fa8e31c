//! No circle between files: of two files of a crate at most one uses the other, directly or through further files.
//!
//! A file uses another if it names one of its items by path. A `mod` line and a re-export that the file itself does not
//! use only pass names on, so a module may re-export what its children define, and the children may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ROOT;
use super::modules::{Arrows, Crate};

/// Arrows that close a circle today: from, to, and why they stay for now. A file is named by the end of its path, all files
/// below a directory by `directory/*`. The list only shrinks: an arrow that is in no circle any more fails the test.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

#[test]
fn no_circle_between_files() {
    let mut used = vec![false; EXCEPTIONS.len()];
    let mut circles = Vec::new();
    for root in roots() {
        let krate = Crate::read(&root);
        let mut arrows = krate.arrows();
        for group in groups(&arrows) {
            for from in &group {
                let Some(to) = arrows.get_mut(from) else {
                    continue;
                };
                to.retain(|to, _| {
                    let excepted = EXCEPTIONS.iter().position(|(one, other, _)| {
                        group.contains(to) && is_named(from, one) && is_named(to, other)
                    });
                    excepted.map(|index| used[index] = true).is_none()
                });
            }
        }
        let found = groups(&arrows).into_iter();
        circles.extend(found.map(|group| show(&group, &arrows)));
    }
    assert!(
        circles.is_empty(),
        "circles between files:\n{}",
        circles.join("\n")
    );
    for ((from, to, _), used) in EXCEPTIONS.iter().zip(used) {
        assert!(
            used,
            "{from} → {to} is in no circle any more: remove the exception"
        );
    }
}

/// Whether a name of the exceptions is that of a file. In these names a crate's root is a module like any other, so that
/// they stay the same when a module becomes a crate.
fn is_named(file: &Path, name: &str) -> bool {
    let mut path: PathBuf = file.iter().filter(|part| *part != "src").collect();
    if path.ends_with("lib.rs") {
        path.set_file_name("mod.rs");
    }
    match name.strip_suffix("/*") {
        Some(directory) => {
            let mut above = path.ancestors().skip(1);
            above.any(|above| above.ends_with(directory))
        }
        None => path.ends_with(name),
    }
}

/// The root files of all crates.
fn roots() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(format!("{ROOT}/crates")).expect("the crates");
    let sources = crates.map(|entry| entry.expect("a crate").path().join("src"));
    let mut roots: Vec<_> = sources
        .flat_map(|source| ["lib.rs", "main.rs"].map(|root| source.join(root)))
        .filter(|root| root.exists())
        .collect();
    roots.sort();
    assert!(!roots.is_empty());
    roots
}

/// The groups of files that all reach one another.
fn groups<'a>(arrows: &Arrows<'a>) -> Vec<BTreeSet<&'a Path>> {
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|&from| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from];
            while let Some(file) = open.pop() {
                let next = arrows.get(file).into_iter().flat_map(BTreeMap::keys);
                open.extend(next.filter(|next| seen.insert(**next)));
            }
            (from, seen)
        })
        .collect();
    let mut groups: Vec<BTreeSet<_>> = Vec::new();
    for (&from, seen) in &reached {
        if !seen.contains(from) || groups.iter().any(|group| group.contains(from)) {
            continue;
        }
        let back = seen.iter().filter(|to| reached[**to].contains(from));
        groups.push(back.copied().collect());
    }
    groups
}

/// Writes the arrows inside a group, a line each.
fn show(group: &BTreeSet<&Path>, arrows: &Arrows) -> String {
    let short = |file: &Path| {
        let crates = format!("{ROOT}/crates");
        let file = file.strip_prefix(crates).unwrap_or(file);
        file.display().to_string()
    };
    let mut text = format!("{} files:\n", group.len());
    for from in group {
        let inside = arrows[from].iter().filter(|(to, _)| group.contains(*to));
        for (to, items) in inside {
            let items: Vec<_> = items.iter().map(String::as_str).collect();
            text += &format!("  {} → {} ({})\n", short(from), short(to), items.join(", "));
        }
    }
    text
}
