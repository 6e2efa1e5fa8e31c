//! Decides which functions need a process that is started with their own environment.
//!
//! A Python handler runs in a copy of a warm interpreter and gets its environment afterwards. The interpreter, the C
//! library and the dynamic linker read some variables only once, at process start. A copy has the values of its zygote,
//! which are those of a function that sets none of them. A zygote cannot have the function's values: `LD_PRELOAD` alone
//! would run user code with privileges. A function that sets such a variable is served by a process that executes the
//! interpreter after confinement. Its cold start includes the start of the interpreter.

use std::path::Path;

/// Variables that are read only at process start.
const NAMES: &[&str] = &[
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LANG",
    "LANGUAGE",
    "LOCPATH",
];
/// Prefixes of further such variables. OpenSSL's are read when `ssl` is imported, which the zygote has done.
const PREFIXES: &[&str] = &["LC_", "LD_", "MALLOC_", "OPENSSL_"];

/// Returns whether a variable is read only at process start. `own` has the prefixes of the interpreter's own variables.
pub(crate) fn is_read_at_start(name: &str, own: &[&str]) -> bool {
    let mut prefixes = PREFIXES.iter().chain(own);
    NAMES.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}

/// Returns whether one of these trees has shared libraries where the dynamic linker looks for them. The search path is
/// fixed at process start, and without a root of its own an instance's code lies at another path of the host.
pub(crate) fn has_libraries(trees: &[&Path]) -> bool {
    trees.iter().any(|tree| {
        let below = tree.join("lib");
        // The link is not followed here: its target may differ inside the sandbox.
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
            assert!(is_read_at_start(name, &["PYTHON"]), "{name}");
        }
        // The time zone can be read again; the others are read when they are used.
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
            assert!(!is_read_at_start(name, &["PYTHON"]), "{name}");
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
