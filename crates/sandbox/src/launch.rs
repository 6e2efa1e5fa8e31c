//! Child processes of virga that build a root for themselves and become another program.
//!
//! They run virga's own binary under a hidden subcommand, so that the multi-threaded server does nothing privileged
//! between `fork` and `exec`. The steps of each main function are numbered.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::confined::{self, Confined};
use crate::descriptors::{EXITS_PIPE, INIT_SOCKET, ZYGOTE_SOCKET};
use crate::program::{Program, become_program};
use crate::{Result, RootSpec, Step, init, root, sys};

/// The hidden subcommand that becomes a zygote.
pub const ZYGOTE: &str = "__zygote";

/// Specification of a zygote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZygoteSpec {
    /// Root directory of the zygote and its guests; `None` = the host's.
    pub root: Option<RootSpec>,
    /// Interpreter with its shim; `None` = virga's own small program, whose copies run user programs.
    pub program: Option<Program>,
}

/// Maximum length of a specification in bytes.
pub(crate) const SPEC_MAX: usize = 64 << 10;

/// Becomes a zygote, next to a maker of sandbox inits. Standard input is the zygote's socket, which first brings the
/// specification and the pipe for exits. Standard output is the socket of the maker. Without an interpreter it returns
/// in each copy, confined and with its function.
///
/// # Errors
/// The step that failed. Does not return otherwise.
pub fn zygote() -> Result<Confined> {
    // 1. Die with virga: an unmetered guest must not survive.
    sys::die_with_parent().step("set the parent-death signal")?;
    sys::new_session();
    sys::make_readable_files();
    // Scheduling of guests relative to virga. Optional: older kernels do not support it.
    let _ = sys::patient_turns();
    // 2. The specification.
    let mut bytes = vec![0; SPEC_MAX];
    let (length, fds) =
        sys::receive(io::stdin().as_fd(), &mut bytes).step("receive the specification")?;
    let missing = || io::Error::other("no pipe came with it");
    let ends = fds.into_iter().next().ok_or_else(missing);
    let ends = above(&ends.step("receive the specification")?)?;
    let spec: ZygoteSpec = serde_json::from_slice(&bytes[..length])
        .map_err(io::Error::other)
        .step("read the specification")?;
    // 3. Fixed descriptors.
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .step("open /dev/null")?
        .into();
    let high_null = above(&null)?;
    sys::dup_to(io::stdin().as_fd(), ZYGOTE_SOCKET).step("place the socket")?;
    sys::dup_to(io::stdout().as_fd(), INIT_SOCKET).step("place the other socket")?;
    sys::dup_to(ends.as_fd(), EXITS_PIPE).step("place the pipe")?;
    sys::dup_to(high_null.as_fd(), 0).step("close standard input")?;
    sys::dup_to(high_null.as_fd(), 1).step("close standard output")?;
    std::mem::forget((null, high_null, ends));
    sys::close_from(EXITS_PIPE + 1).step("close descriptors")?;
    if let Some(root) = &spec.root {
        // 4. A root of its own, which every guest inherits.
        sys::unshare(libc::CLONE_NEWNS).step("new mount namespace")?;
        let private = root::enter(root)?;
        // 5. The maker of sandbox inits, forked while this process is small. It is pid 1 of a pid namespace around them
        //    all, because a process may return only to a pid namespace of its own user namespace.
        sys::unshare(libc::CLONE_NEWPID).step("new pid namespace")?;
        if let sys::Fork::Child = sys::fork().step("fork")? {
            sys::close(ZYGOTE_SOCKET);
            sys::close(EXITS_PIPE);
            match init::serve(&private)? {}
        }
        // 6. Private files for the zygote: its copies can reopen its files through their /proc, so they must not be
        //    shared with another zygote.
        sys::unshare(libc::CLONE_NEWNS).step("new mount namespace")?;
        root::make_private(&private)?;
        if spec.program.is_some() {
            root::make_library_places()?;
        }
    } else {
        // Installing filters needs either a privilege or this.
        sys::no_new_privileges().step("no new privileges")?;
    }
    sys::close(INIT_SOCKET);
    // 7. The interpreter, with default signal actions; or copies of this program.
    sys::reset_signals();
    match &spec.program {
        Some(program) => Err(become_program(program)),
        None => confined::serve(),
    }
}

/// Duplicates a descriptor to a number above the fixed ones.
fn above(fd: &OwnedFd) -> Result<OwnedFd> {
    let mut kept = Vec::new();
    loop {
        use std::os::fd::AsRawFd;
        let copy = fd.try_clone().step("copy a descriptor")?;
        if copy.as_raw_fd() > EXITS_PIPE {
            return Ok(copy);
        }
        kept.push(copy);
    }
}
