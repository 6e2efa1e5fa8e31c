//! Compiles the sources of a package once, at publication, so that cold starts do not. Python alone does so.
//!
//! The source is untrusted, so the interpreter compiles it in a sandbox without network, which sees the tree read-only.
//! The compiled files are moved into the tree one by one, each atomically. A start that comes earlier compiles for
//! itself.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use model::{AccountId, Sha256};
use sandbox::Names;
use sandbox::beneath::{Directory, TreeBounds};
use sandbox::run::{RunFailure, RunNetwork, RunView, WorkDirectory};

use crate::install::{StagingDirectory, blocking};
use crate::layout::CODE;
use crate::package::{self, PackageError};
use crate::runtime::{self, Compiler};
use crate::tool::{RunningTool, ToolSandbox};
use crate::{Interpreter, Worker, root};

/// Path of the compiled files inside.
const COMPILED: &str = "/home/qcloud";
const TIMEOUT: Duration = Duration::from_secs(120);
/// Memory of the compiler in addition to the files, bytes.
const COMPILER_BYTES: u64 = 128 << 20;

/// Resources that compiling a tree needs.
#[derive(Clone, Copy, Debug)]
pub struct CompileNeeds {
    /// Memory, including the written files, bytes.
    pub memory_bytes: u64,
    /// Timeout of the run.
    pub timeout: Duration,
}

impl Worker {
    /// Returns the resources that compiling a tree for an interpreter needs. `None` if there is nothing to compile. A tree
    /// that is lost is unpacked.
    ///
    /// # Errors
    /// As [`PackageStore::unpack`].
    pub async fn compile_needs(
        &self,
        tree: &Sha256,
        interpreter: &Interpreter,
    ) -> Result<Option<CompileNeeds>, PackageError> {
        let Some(compiler) = runtime::served_by(interpreter).compiler(interpreter) else {
            return Ok(None);
        };
        let (store, tree) = (self.packages().clone(), tree.clone());
        let sources = blocking(move || {
            let tree = store.unpack(&tree)?;
            sources(&tree, &compiler).map_err(PackageError::io("read a tree"))
        })
        .await?;
        Ok(sources.map(|bytes| CompileNeeds {
            // Compiled files are about as large as their source, and are written to memory.
            memory_bytes: COMPILER_BYTES + 2 * bytes,
            timeout: TIMEOUT,
        }))
    }

    /// Compiles a tree for an interpreter, with a memory limit. Returns the number of compiled files; files with errors
    /// are skipped. Dropping the future ends all processes of the compilation.
    ///
    /// # Errors
    /// Disk errors and sandbox errors.
    pub async fn precompile(
        &self,
        account: AccountId,
        tree: &Sha256,
        interpreter: &Interpreter,
        memory_bytes: u64,
    ) -> Result<usize, PackageError> {
        let Some(compiler) = runtime::served_by(interpreter).compiler(interpreter) else {
            return Ok(0);
        };
        let store = self.packages();
        let tree = store.tree(tree);
        let result = StagingDirectory::make(store)?;
        let host = (!self.isolated())
            .then(|| StagingDirectory::make(store))
            .transpose()?;
        let tool_sandbox = ToolSandbox::take(self, account, false, memory_bytes);
        let tool_sandbox = tool_sandbox.map_err(PackageError::sandbox)?;
        let bounds = TreeBounds {
            // At most one directory per directory of the code, and one compiled file per file.
            inodes: self.tree_bounds().inodes * 2,
            ..self.tree_bounds()
        };
        let work = WorkDirectory {
            inside: host
                .as_ref()
                .map_or(COMPILED.into(), |host| host.path().to_owned()),
            seed: None,
            result: result.path().to_owned(),
            // The compiler fails if any file has errors, but the other files are usable.
            always: true,
            bounds,
        };
        let (code, view) = if self.isolated() {
            let code = root::read_only(&tree, Path::new(CODE));
            let directory = self.root_directory();
            let root = root::of(&[interpreter], directory, vec![code], Names::Nowhere);
            (Path::new(CODE), RunView::Own(root, RunNetwork::Nothing))
        } else {
            let read = self.readable(&[interpreter], &[&tree]);
            (tree.as_path(), RunView::Host(read))
        };
        // The compiler recreates the path of the code below its output directory.
        let from = code.strip_prefix("/").unwrap_or(code).to_owned();
        let program = (compiler.program)(interpreter, code, &work.inside);
        let spec = self.run_spec(view, program, work, &tool_sandbox, TIMEOUT);
        let running = RunningTool::start(self, &spec, tool_sandbox).await;
        let running = running.map_err(PackageError::io("compile a package"))?;
        let ended = running.wait().await;
        let ended = ended.map_err(PackageError::io("compile a package"))?;
        if let Some(RunFailure::Fault) = ended.failure() {
            return Err(PackageError::Io {
                step: "compile a package",
                source: io::Error::other(ended.log),
            });
        }
        let into = tree.clone();
        let moved =
            blocking(move || move_compiled_files(result.path(), &from, &into, bounds, &compiler))
                .await;
        self.renew_private_tree(&tree);
        moved
    }
}

/// Returns the total size of a tree's sources. `None` if there are none, or if the tree already has files compiled
/// for this version.
fn sources(tree: &Path, compiler: &Compiler) -> io::Result<Option<u64>> {
    let mut bytes = None;
    for path in package::walk(tree)? {
        if path.to_string_lossy().ends_with(&compiler.tag) {
            return Ok(None);
        }
        if path.extension().is_some_and(|end| end == compiler.source) {
            let length = tree.join(path).symlink_metadata()?.len();
            bytes = Some(bytes.unwrap_or(0) + length);
        }
    }
    Ok(bytes)
}

/// Moves compiled files to where the interpreter looks for them. File names and links of the tree are untrusted, so no
/// link is followed on either side.
fn move_compiled_files(
    result: &Path,
    from: &Path,
    tree: &Path,
    bounds: TreeBounds,
    compiler: &Compiler,
) -> Result<usize, PackageError> {
    let take = PackageError::io("take over compiled files");
    let opened = Directory::open(result).and_then(|result| result.below(from));
    let (Ok(from), Ok(tree)) = (opened, Directory::open(tree)) else {
        // Nothing was compiled, or the tree was removed.
        return Ok(0);
    };
    let files = from.files(bounds).map_err(PackageError::tree)?;
    let compiled = files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == compiler.compiled));
    let mut moved = 0;
    for path in compiled {
        match move_compiled_file(&from, &tree, path, compiler.directory) {
            Ok(()) => moved += 1,
            // The file exists already, or its directory is not one of the tree.
            Err(e) if !is_disk(&e) => {}
            Err(e) => return Err(take(e)),
        }
    }
    Ok(moved)
}

fn move_compiled_file(
    from: &Directory,
    tree: &Directory,
    path: &Path,
    beside: &str,
) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let directory = tree.below(parent)?;
    let cache = directory.make(OsStr::new(beside))?;
    from.below(parent)?.move_file(name, &cache)
}

/// Returns whether an error is caused by the disk.
fn is_disk(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn compiled_files_land_only_in_directories_of_the_tree() {
        let outer = tempfile::tempdir().expect("a directory");
        let at = |path: &str| outer.path().join(path);
        for path in [
            "tree/pkg",
            "tree/twice/__pycache__",
            "outside",
            "result/var/user/pkg",
        ] {
            fs::create_dir_all(at(path)).expect("made");
        }
        symlink(at("outside"), at("tree/link")).expect("made");
        symlink("../outside", at("tree/pkg/up")).expect("made");
        fs::create_dir(at("tree/linked-cache")).expect("made");
        symlink(at("outside"), at("tree/linked-cache/__pycache__")).expect("made");
        fs::write(at("tree/twice/__pycache__/m.cpython-311.pyc"), "first").expect("written");
        for name in ["pkg", "pkg/up", "link", "twice", "linked-cache", "nowhere"] {
            let directory = at("result/var/user").join(name);
            fs::create_dir_all(&directory).expect("made");
            fs::write(directory.join("m.cpython-311.pyc"), "compiled").expect("written");
            fs::write(directory.join("m.txt"), "something else").expect("written");
        }
        let bounds = TreeBounds {
            bytes: 1 << 20,
            inodes: 100,
        };
        let python = Interpreter {
            runtime: model::Runtime::new(model::Language::Python, 3, 11),
            program: "/p".into(),
            prefix: "/".into(),
        };
        let compiler = runtime::served_by(&python).compiler(&python);
        let compiler = compiler.expect("Python has one");
        let from = Path::new("var/user");
        let moved = move_compiled_files(&at("result"), from, &at("tree"), bounds, &compiler);
        assert_eq!(moved.expect("taken"), 1);
        let placed = at("tree/pkg/__pycache__/m.cpython-311.pyc");
        assert_eq!(fs::read_to_string(placed).expect("read"), "compiled");
        let kept = at("tree/twice/__pycache__/m.cpython-311.pyc");
        assert_eq!(fs::read_to_string(kept).expect("read"), "first");
        assert_eq!(fs::read_dir(at("outside")).expect("listed").count(), 0);
        assert!(!at("tree/nowhere").exists());
    }
}
