//! Compiling a package's Python files once, when it is published, so that no cold start does.
//!
//! Reading source is the interpreter's business and the source is a stranger's, so it happens in a sandbox without
//! network, which sees the tree read-only and writes elsewhere. What it wrote is moved into the tree file by file,
//! each whole; a start that comes before that compiles for itself.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use model::Sha256;
use sandbox::launch::{Program, RunNetwork, RunSpec, View};
use sandbox::{Bind, Names};

use crate::install::blocking;
use crate::package::{self, PackageError, PackageStore};
use crate::{Interpreter, Worker, python, tool};

/// Where the code and what is compiled of it show inside.
const CODE: &str = "/var/user";
const COMPILED: &str = "/var/compiled";
/// The first version that can be told where to write.
const OLDEST: (u8, u8) = (3, 8);
const SECONDS: u32 = 120;

impl Worker {
    /// Compiles a tree for an interpreter. Says how many files were compiled; what does not compile is left out.
    ///
    /// # Errors
    /// The disk's, or the sandbox's.
    pub async fn precompile(
        &self,
        store: &PackageStore,
        tree: &Sha256,
        interpreter: &Interpreter,
    ) -> Result<usize, PackageError> {
        let model::Runtime::Python { major, minor } = interpreter.runtime else {
            return Ok(0);
        };
        if (major, minor) < OLDEST {
            return Ok(0);
        }
        let (path, tag) = (store.tree(tree), format!(".cpython-{major}{minor}.pyc"));
        let done =
            blocking(move || has_compiled(&path, &tag).map_err(PackageError::io("read a tree")))
                .await?;
        if done {
            return Ok(0);
        }
        let identity = self.identity(false).map_err(io::Error::other);
        let identity = identity.map_err(PackageError::io("take a user"))?;
        let aside = store.make_aside();
        let compiled = match &aside {
            Ok(aside) => {
                let user = self.own_user(&identity);
                self.compile(store.tree(tree), aside, user, interpreter)
                    .await
            }
            Err(e) => Err(PackageError::Refused(e.to_string())),
        };
        if let Ok(aside) = aside {
            let _ = fs::remove_dir_all(aside);
        }
        compiled
    }

    async fn compile(
        &self,
        tree: PathBuf,
        aside: &Path,
        user: Option<u32>,
        interpreter: &Interpreter,
    ) -> Result<usize, PackageError> {
        chown(aside, user, user).map_err(PackageError::io("prepare a directory"))?;
        let (spec, from) = self.compile_spec(&tree, aside, user, interpreter);
        // Files that do not compile make it fail, and are no fault.
        let run = async {
            tool::start(self.virga(), &spec, Stdio::null)
                .await?
                .wait()
                .await
        };
        run.await.map_err(PackageError::io("compile a package"))?;
        let limit = self.limits().unpacked_bytes;
        blocking(move || {
            take_over(&from, &tree, limit).map_err(PackageError::io("take over compiled files"))
        })
        .await
    }

    fn compile_spec(
        &self,
        tree: &Path,
        aside: &Path,
        user: Option<u32>,
        interpreter: &Interpreter,
    ) -> (RunSpec, PathBuf) {
        let (code, compiled, view) = if self.isolated() {
            let binds = vec![
                python::read_only(tree, Path::new(CODE)),
                Bind {
                    source: aside.to_owned(),
                    target: COMPILED.into(),
                    writable: true,
                },
            ];
            let root = python::root(&[interpreter], self.root_directory(), binds, Names::Nowhere);
            let view = View::Own(root, RunNetwork::Nothing);
            (Path::new(CODE), Path::new(COMPILED), view)
        } else {
            (
                tree,
                aside,
                View::Host(self.readable(&[interpreter], &[tree])),
            )
        };
        // Below where it writes, the compiler makes the path of the code anew.
        let from = aside.join(code.strip_prefix("/").unwrap_or(code));
        let (program, code) = (
            interpreter.program.to_string_lossy(),
            code.to_string_lossy(),
        );
        let prefix = format!("pycache_prefix={}", compiled.display());
        let args = [
            &*program,
            "-I",
            "-S",
            "-X",
            &prefix,
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            &code,
        ];
        let spec = RunSpec {
            view,
            program: Program {
                args: args.map(str::to_owned).to_vec(),
                env: vec!["LANG=C.UTF-8".into()],
            },
            directory: compiled.into(),
            uid: user,
            tmp_bytes: 16 << 20,
            memory_bytes: 4 << 30,
            file_bytes: 64 << 20,
            seconds: SECONDS,
        };
        (spec, from)
    }
}

/// Whether an earlier run of virga, or the package's maker, has compiled it for this version.
fn has_compiled(tree: &Path, tag: &str) -> io::Result<bool> {
    let files = package::walk(tree)?;
    Ok(files
        .iter()
        .any(|path| path.to_string_lossy().ends_with(tag)))
}

/// Moves compiled files to where the interpreter looks for them. A stranger's program has named them.
fn take_over(from: &Path, tree: &Path, limit: u64) -> io::Result<usize> {
    if !from.is_dir() || package::size(from)?.bytes > limit {
        return Ok(0);
    }
    let mut taken = 0;
    for path in package::walk(from)? {
        let (source, name) = (from.join(&path), path.file_name());
        let is_file = fs::symlink_metadata(&source).is_ok_and(|kind| kind.is_file());
        let is_compiled = path.extension().is_some_and(|end| end == "pyc");
        let (Some(parent), Some(name)) = (path.parent(), name) else {
            continue;
        };
        let directory = tree.join(parent);
        let cache = directory.join("__pycache__");
        let ours = |path: &Path| fs::symlink_metadata(path).is_ok_and(|kind| kind.is_dir());
        if !is_file || !is_compiled || !ours(&directory) || cache.join(name).exists() {
            continue;
        }
        if !cache.exists() {
            fs::create_dir(&cache)?;
        }
        if !ours(&cache) {
            continue;
        }
        let owner = sandbox::user::is_root().then_some(0);
        chown(&source, owner, owner)?;
        fs::set_permissions(&source, fs::Permissions::from_mode(0o644))?;
        fs::rename(&source, cache.join(name))?;
        taken += 1;
    }
    Ok(taken)
}
