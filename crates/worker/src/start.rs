//! Which functions need a process that was started with their own environment.
//!
//! A Python handler runs in a copy of a warm interpreter, and gets its environment after that was started. Interpreter, C
//! library and dynamic linker read some variables once, at the start of a process. A copy has those of its zygote, whose
//! values are those of a function that sets none of them. A zygote cannot have the function's: `LD_PRELOAD` alone would run
//! the user's code where privileges are. So a function that sets one is served by a process that becomes the interpreter
//! once it is confined. Its cold start takes as long as the interpreter's own.

use std::path::Path;

/// Variables that are read at the start of a process.
const NAMES: &[&str] = &[
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LANG",
    "LANGUAGE",
    "LOCPATH",
];
/// What the names of others begin with. OpenSSL's are read when the interpreter's `ssl` is loaded, which a zygote has done.
const PREFIXES: &[&str] = &["LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON"];

/// Whether a variable is read at the start of a process and never again.
pub(crate) fn is_read_at_start(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether one of these trees has shared libraries where the dynamic linker looks for them. Their paths are in its search
/// path from the start of a process on, and without a root of its own an instance's are its code's on the host.
pub(crate) fn has_libraries(trees: &[&Path]) -> bool {
    trees.iter().any(|tree| {
        let below = tree.join("lib");
        // Where a link leads to is for the function to see; it is not followed here.
        let is_link = std::fs::symlink_metadata(&below).is_ok_and(|below| below.is_symlink());
        is_link || holds_library(tree) || holds_library(&below)
    })
}

fn holds_library(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".so") || name.contains(".so.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_read_at_process_start_are_known() {
        let read = [
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PYTHONPATH",
            "PYTHONHASHSEED",
            "MALLOC_ARENA_MAX",
            "GLIBC_TUNABLES",
            "LANG",
            "LC_ALL",
            "OPENSSL_CONF",
        ];
        for name in read {
            assert!(is_read_at_start(name), "{name}");
        }
        // The time zone is read again, and the others when they are used.
        for name in [
            "TZ",
            "PATH",
            "HOME",
            "COLOUR",
            "LDAP_URL",
            "MY_LANG",
            "LANGUAGES",
            "SSL_CERT_FILE",
        ] {
            assert!(!is_read_at_start(name), "{name}");
        }
    }

    #[test]
    fn libraries_in_linker_directories_are_found() {
        let outer = tempfile::tempdir().expect("a directory");
        let rows = [
            ("none/index.py", false),
            ("deep/pkg/libx.so", false),
            ("beside/libx.so", true),
            ("versioned/libx.so.1.2", true),
            ("below/lib/libx.so", true),
            ("text/sort.some", false),
        ];
        for (path, expected) in rows {
            let file = outer.path().join(path);
            std::fs::create_dir_all(file.parent().expect("one")).expect("made");
            std::fs::write(&file, "").expect("written");
            let tree = outer.path().join(path.split('/').next().expect("one"));
            assert_eq!(has_libraries(&[&tree]), expected, "{path}");
        }
    }
}
