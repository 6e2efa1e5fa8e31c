//! Packs a source into a zip archive, without files that a deployed function does not need or must not contain.
//!
//! A directory's `.virgaignore` excludes files; without one, its `.gitignore` files do. Files that look like secrets are always
//! excluded unless they are included by name. The command reports all excluded files.

use std::fs;
use std::io::{self, Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use zip::ZipWriter;
use zip::result::{ZipError, ZipResult};
use zip::write::SimpleFileOptions;

use super::failure::Failure;

/// Names that are always excluded without a report.
const ALWAYS_SKIPPED: &[&str] = &[
    ".git",
    ".gitignore",
    ".hg",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".svn",
    ".venv",
    ".virgaignore",
    "__pycache__",
    "venv",
];
/// The directory of installed packages. `.gitignore` usually lists it, but a function needs it.
const INSTALLED: &str = "node_modules";
const IGNORE_FILE: &str = ".virgaignore";
const GIT_IGNORE_FILE: &str = ".gitignore";
/// Names of files with tokens, passwords or private keys.
const SECRET_NAMES: &[&str] = &[
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".yarnrc",
    ".yarnrc.yml",
    "credentials.json",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
];
const SECRET_SUFFIXES: &[&str] = &[".p12", ".pfx", ".jks", ".keystore"];
const SECRET_DIRECTORIES: &[&str] = &[".aws", ".ssh", ".gnupg", ".docker", ".kube", ".tccli"];
/// Suffixes of `.env` templates, which list variables without values.
const TEMPLATES: &[&str] = &[".example", ".sample", ".template", ".dist"];
/// Suffixes of files that are searched for a PEM private key.
const KEY_SUFFIXES: &[&str] = &[".pem", ".key"];
const KEY_FILE_MAX: u64 = 64 << 10;

/// A packed source.
#[derive(Debug)]
pub(super) struct Packed {
    /// The zip archive.
    pub(super) zip: Vec<u8>,
    /// Paths that ignore files excluded, relative to the source, in order.
    pub(super) ignored: Vec<String>,
    /// Paths that were excluded because they look like secrets.
    pub(super) secrets: Vec<String>,
    /// Paths of FIFOs, sockets and devices, which a package cannot have.
    pub(super) special: Vec<String>,
}

/// Packs a directory or a single file. A zip archive is used unchanged.
///
/// `named` are paths relative to the source that are packed regardless of the rules. With `installs`, the server installs the
/// packages, so ignore files also apply to locally installed ones.
///
/// # Errors
/// Returns an error if a file cannot be read, or a line of an ignore file is not a pattern.
pub(super) fn pack(source: &Path, named: &[String], installs: bool) -> Result<Packed, Failure> {
    if source.extension().is_some_and(|end| end == "zip") {
        return Ok(Packed {
            zip: fs::read(source)
                .map_err(|e| Failure::Usage(format!("failed to read {}: {e}", source.display())))?,
            ignored: Vec::new(),
            secrets: Vec::new(),
            special: Vec::new(),
        });
    }
    let broken = |e: ZipError| Failure::Usage(format!("failed to pack {}: {e}", source.display()));
    let rules = Rules::of(source, named, installs)?;
    let mut packer = Packer {
        writer: ZipWriter::new(Cursor::new(Vec::new())),
        rules,
        ignored: Vec::new(),
        secrets: Vec::new(),
        special: Vec::new(),
    };
    if source.is_file() {
        // A path such as `..` or one that ends in a link has its name only after resolution.
        let name = source.file_name().unwrap_or_default();
        let name = name.to_str().ok_or_else(|| broken(not_utf8(source)))?;
        packer.file(source, name).map_err(broken)?;
    } else {
        packer.directory(source, "", false).map_err(broken)?;
    }
    for name in named {
        if !source.join(name).exists() {
            let message = format!("--include: {} has no {name}", source.display());
            return Err(Failure::Usage(message));
        }
    }
    Ok(Packed {
        zip: packer.writer.finish().map_err(broken)?.into_inner(),
        ignored: packer.ignored,
        secrets: packer.secrets,
        special: packer.special,
    })
}

/// The decision about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pack,
    /// Excluded without a report.
    Skip,
    /// Excluded by an ignore file.
    Ignore,
    /// Excluded because it looks like a secret.
    Secret,
}

struct Rules {
    /// Paths that are always packed, without leading and trailing slashes.
    named: Vec<String>,
    installs: bool,
    /// The rules of `.virgaignore`, if there is one.
    own: Option<Gitignore>,
    /// The rules of the `.gitignore` files from the source down to the current directory.
    git: Vec<Gitignore>,
}

impl Rules {
    fn of(source: &Path, named: &[String], installs: bool) -> Result<Self, Failure> {
        let named = named
            .iter()
            .map(|name| name.trim_start_matches("./").trim_matches('/').to_owned());
        let own = source.join(IGNORE_FILE);
        let own = if own.is_file() {
            Some(patterns(source, &own).map_err(|e| Failure::Usage(e.to_string()))?)
        } else {
            None
        };
        Ok(Self {
            named: named.collect(),
            installs,
            own,
            git: Vec::new(),
        })
    }

    /// Returns whether a path is a named one or below one.
    fn is_named(&self, path: &str) -> bool {
        self.named.iter().any(|name| {
            path.strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Returns whether a directory contains a named path.
    fn contains_named(&self, directory: &str) -> bool {
        self.named.iter().any(|name| {
            name.strip_prefix(directory)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Decides on a path whose parents are not excluded.
    fn verdict(&self, path: &Path, inside: &str, name: &str, is_dir: bool) -> Verdict {
        if self.is_named(inside) {
            return Verdict::Pack;
        }
        if ALWAYS_SKIPPED.contains(&name) || inside.ends_with("node_modules/.cache") {
            return Verdict::Skip;
        }
        let matched = match &self.own {
            Some(own) => own.matched(path, is_dir),
            // The rules of the nearest directory take precedence.
            None => {
                let all = self.git.iter().rev();
                let mut found = all.map(|rules| rules.matched(path, is_dir));
                found
                    .find(|matched| !matched.is_none())
                    .unwrap_or(Match::None)
            }
        };
        let kept = name == INSTALLED && self.own.is_none() && !self.installs;
        match matched {
            Match::Ignore(_) if !kept => Verdict::Ignore,
            // `.virgaignore` is written for packages, so `!.env` in it explicitly includes the file.
            Match::Whitelist(_) if self.own.is_some() => Verdict::Pack,
            _ if is_secret(path, inside, name, is_dir) => Verdict::Secret,
            _ => Verdict::Pack,
        }
    }
}

/// Parses the rules of an ignore file for its directory.
fn patterns(directory: &Path, file: &Path) -> Result<Gitignore, ignore::Error> {
    let mut builder = GitignoreBuilder::new(directory);
    if let Some(error) = builder.add(file) {
        return Err(error);
    }
    builder.build()
}

/// Returns whether a file or directory looks like it contains secrets. Files below `node_modules` are exempt.
fn is_secret(path: &Path, inside: &str, name: &str, is_dir: bool) -> bool {
    if inside.split('/').any(|part| part == INSTALLED) {
        return false;
    }
    if is_dir {
        return SECRET_DIRECTORIES.contains(&name);
    }
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let environment = name == ".env" || name.starts_with(".env.");
    SECRET_NAMES.contains(&name)
        || (environment && !ends(TEMPLATES))
        || ends(SECRET_SUFFIXES)
        || (ends(KEY_SUFFIXES) && has_private_key(path))
}

/// Returns whether a file contains a PEM private key.
fn has_private_key(path: &Path) -> bool {
    let small = fs::metadata(path).is_ok_and(|data| data.len() <= KEY_FILE_MAX);
    let text = if small {
        fs::read(path)
    } else {
        Ok(Vec::new())
    };
    let text = text.unwrap_or_default();
    String::from_utf8_lossy(&text).contains("PRIVATE KEY-----")
}

struct Packer {
    writer: ZipWriter<Cursor<Vec<u8>>>,
    rules: Rules,
    ignored: Vec<String>,
    secrets: Vec<String>,
    special: Vec<String>,
}

impl Packer {
    /// Packs a directory. In an excluded one, packs only named paths.
    fn directory(&mut self, directory: &Path, prefix: &str, left_out: bool) -> ZipResult<()> {
        let mut entries = fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
        // Sort for a reproducible package.
        entries.sort_by_key(fs::DirEntry::file_name);
        let git = directory.join(GIT_IGNORE_FILE);
        let has_rules = self.rules.own.is_none() && git.is_file();
        if has_rules {
            let rules = patterns(directory, &git).map_err(io::Error::other)?;
            self.rules.git.push(rules);
        }
        for entry in entries {
            self.entry(&entry, prefix, left_out)?;
        }
        if has_rules {
            self.rules.git.pop();
        }
        Ok(())
    }

    fn entry(&mut self, entry: &fs::DirEntry, prefix: &str, left_out: bool) -> ZipResult<()> {
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, inside) = (entry.path(), format!("{prefix}{name}"));
        let kind = entry.file_type()?;
        let verdict = if left_out && !self.rules.is_named(&inside) {
            Verdict::Skip
        } else {
            self.rules.verdict(&path, &inside, &name, kind.is_dir())
        };
        let shown = if kind.is_dir() {
            format!("{inside}/")
        } else {
            inside.clone()
        };
        match verdict {
            Verdict::Ignore => self.ignored.push(shown),
            Verdict::Secret => self.secrets.push(shown),
            Verdict::Pack | Verdict::Skip => {}
        }
        let packs = verdict == Verdict::Pack;
        if packs && entry.file_name().to_str().is_none() {
            return Err(not_utf8(&path));
        }
        if kind.is_dir() {
            if packs || self.rules.contains_named(&inside) {
                self.directory(&path, &format!("{inside}/"), !packs)?;
            }
        } else if packs && kind.is_symlink() {
            let target = fs::read_link(&path)?;
            let target = target.to_str().ok_or_else(|| not_utf8(&path))?;
            self.writer
                .add_symlink(inside, target, SimpleFileOptions::default())?;
        } else if packs && kind.is_file() {
            self.file(&path, &inside)?;
        } else if packs {
            self.special.push(inside);
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str) -> ZipResult<()> {
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        let options = SimpleFileOptions::default().unix_permissions(mode);
        self.writer.start_file(name, options)?;
        Ok(self.writer.write_all(&fs::read(path)?)?)
    }
}

/// Returns the error for a file whose name, or a link whose target, cannot be in a package.
fn not_utf8(path: &Path) -> ZipError {
    ZipError::Io(io::Error::other(format!(
        "{path:?} has a name or a target that is not UTF-8, which packages must be; rename it, or list it in {IGNORE_FILE}"
    )))
}

/// Returns the canonical path of a source.
///
/// # Errors
/// Returns an error if it does not exist.
pub(super) fn real_path(source: &Path) -> Result<PathBuf, Failure> {
    source
        .canonicalize()
        .map_err(|e| Failure::Usage(format!("failed to find {}: {e}", source.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names in a package of these files, and the excluded files.
    fn packed(files: &[(&str, &str)], named: &[&str], installs: bool) -> (Vec<String>, Packed) {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        let named: Vec<_> = named.iter().map(|name| (*name).to_owned()).collect();
        let packed = pack(directory.path(), &named, installs).expect("packed");
        let archive = zip::ZipArchive::new(Cursor::new(packed.zip.clone())).expect("an archive");
        let mut names: Vec<_> = archive
            .file_names()
            .map(|name| name.expect("a name").into_owned())
            .collect();
        names.sort();
        (names, packed)
    }

    #[test]
    fn secret_looking_files_are_excluded_unless_included_by_name() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\n";
        let files = [
            ("index.py", ""),
            (".env", "A=1"),
            (".env.local", "A=1"),
            (".env.example", "A="),
            (".npmrc", "//registry/:_authToken=x"),
            ("conf/id_rsa", key),
            ("conf/server.key", key),
            ("conf/roots.pem", "-----BEGIN CERTIFICATE-----"),
            (".aws/credentials", "x"),
            ("node_modules/a/.npmrc", ""),
        ];
        let (names, left) = packed(&files, &[], false);
        let kept = [
            ".env.example",
            "conf/roots.pem",
            "index.py",
            "node_modules/a/.npmrc",
        ];
        assert_eq!(names, kept);
        let secrets = [
            ".aws/",
            ".env",
            ".env.local",
            ".npmrc",
            "conf/id_rsa",
            "conf/server.key",
        ];
        assert_eq!(left.secrets, secrets);
        let (names, left) = packed(&files, &[".env", "./.aws/credentials"], false);
        assert!(
            names.contains(&".env".to_owned()) && names.contains(&".aws/credentials".to_owned())
        );
        assert!(!left.secrets.contains(&".env".to_owned()));
    }

    #[test]
    fn gitignore_applies_per_directory_except_to_installed_packages() {
        let files = [
            (".gitignore", "*.log\n/data\nnode_modules\n"),
            ("sub/.gitignore", "!keep.log\n"),
            ("index.js", ""),
            ("a.log", ""),
            ("sub/keep.log", ""),
            ("sub/b.log", ""),
            ("sub/data/kept.txt", ""),
            ("data/big.bin", ""),
            ("node_modules/a/index.js", ""),
        ];
        let (names, left) = packed(&files, &[], false);
        let kept = [
            "index.js",
            "node_modules/a/index.js",
            "sub/data/kept.txt",
            "sub/keep.log",
        ];
        assert_eq!(names, kept);
        assert_eq!(left.ignored, ["a.log", "data/", "sub/b.log"]);
        let (names, _) = packed(&files, &[], true);
        assert!(!names.contains(&"node_modules/a/index.js".to_owned()));
        let (names, _) = packed(&files, &["data/big.bin"], false);
        assert!(names.contains(&"data/big.bin".to_owned()));
    }

    #[test]
    fn virgaignore_replaces_gitignore() {
        let files = [
            (".virgaignore", "tests/\n!.env\n"),
            (".gitignore", "*.bin\n"),
            (".env", ""),
            (".npmrc", ""),
            ("index.py", ""),
            ("model.bin", ""),
            ("tests/test_a.py", ""),
        ];
        let (names, left) = packed(&files, &[], false);
        assert_eq!(names, [".env", "index.py", "model.bin"]);
        assert_eq!(
            (left.ignored, left.secrets),
            (vec!["tests/".into()], vec![".npmrc".into()])
        );
    }

    #[test]
    fn names_that_are_not_utf8_are_rejected_and_special_files_are_reported() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::write(root.join("index.py"), "").expect("written");
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("bound");
        let packed = pack(root, &[], false).expect("packed");
        assert_eq!(packed.special, ["socket"]);
        drop(socket);
        let odd = OsStr::from_bytes(b"caf\xff.txt");
        let refused = |what: &str| {
            let refused = pack(root, &[], false).expect_err("refused").to_string();
            assert!(
                refused.contains("\\xFF") && refused.contains("UTF-8"),
                "{what}: {refused}"
            );
        };
        fs::write(root.join(odd), "").expect("written");
        refused("a file");
        assert!(pack(&root.join(odd), &[], false).is_err());
        // An excluded file may have any name.
        fs::write(root.join(".virgaignore"), "*.txt\n").expect("written");
        pack(root, &[], false).expect("packed");
        fs::remove_file(root.join(".virgaignore")).expect("removed");
        fs::remove_file(root.join(odd)).expect("removed");
        fs::create_dir(root.join(odd)).expect("made");
        refused("a directory");
        fs::remove_dir(root.join(odd)).expect("removed");
        let link = root.join(OsStr::from_bytes(b"caf\xff"));
        std::os::unix::fs::symlink("index.py", &link).expect("linked");
        refused("a link");
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(odd, root.join("link")).expect("linked");
        let refused = pack(root, &[], false).expect_err("refused").to_string();
        assert!(refused.contains("link"), "{refused}");
    }

    #[test]
    fn missing_include_path_is_rejected() {
        let directory = tempfile::tempdir().expect("a directory");
        let refused = pack(directory.path(), &["nothing".into()], false).expect_err("refused");
        assert!(refused.to_string().contains("--include"), "{refused}");
    }
}
