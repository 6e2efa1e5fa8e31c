//! Children of virga that build a root for themselves and become another program.
//!
//! They are virga's own binary under a hidden subcommand, so that nothing privileged runs in the threaded
//! server between `fork` and `exec`. Each main function is a numbered list.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::confined::{self, Confined};
use crate::landlock_rules::LandlockRules;
use crate::{Result, RootSpec, Step, init, root, sys};

/// The hidden subcommand that becomes a zygote.
pub const ZYGOTE: &str = "__zygote";

/// A program to become: its arguments (the first is its path) and whole environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Path and arguments.
    pub args: Vec<String>,
    /// Variables, `NAME=value`.
    pub env: Vec<String>,
}

/// A zygote to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZygoteSpec {
    /// What it sees, and after it every guest; none where that is the host.
    pub root: Option<RootSpec>,
    /// The interpreter with its shim; none where copies of virga's own small program run what they are given.
    pub program: Option<Program>,
}

/// Descriptors of a zygote and of its maker of cells: their sockets.
pub(crate) const ZYGOTE_SOCKET: i32 = 3;
pub(crate) const INIT_SOCKET: i32 = 4;
/// That of the pipe in which a zygote tells how its copies ended.
pub(crate) const ENDS_PIPE: i32 = 5;
/// Largest specification.
pub(crate) const SPEC_MAX: usize = 64 << 10;

/// Becomes a zygote, and beside it the maker of its cells; standard input is the socket of the one, on which the
/// specification comes first, with the pipe for the ends of its copies, and standard output that of the other. Where there is
/// no interpreter to become it returns in each copy, which is confined and has its function.
///
/// # Errors
/// The step that failed. Does not return otherwise.
pub fn zygote() -> Result<Confined> {
    // 1. End with virga: a guest never outlives the one who meters it.
    sys::die_with_parent().step("follow the parent")?;
    sys::new_session();
    sys::make_readable_files();
    // How its guests share the processors with virga; a kernel may not know it, and they are right without it.
    let _ = sys::patient_turns();
    // 2. What to become.
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
    sys::dup_to(ends.as_fd(), ENDS_PIPE).step("place the pipe")?;
    sys::dup_to(high_null.as_fd(), 0).step("close standard input")?;
    sys::dup_to(high_null.as_fd(), 1).step("close standard output")?;
    std::mem::forget((null, high_null, ends));
    sys::close_from(ENDS_PIPE + 1).step("close descriptors")?;
    if let Some(root) = &spec.root {
        // 4. A root of its own, which every guest inherits.
        sys::unshare(libc::CLONE_NEWNS).step("new mount namespace")?;
        let private = root::enter(root)?;
        // 5. Beside it, still small, the one who makes the cells: the first of a pid namespace around them all, since
        //    one can come back only to a pid namespace that is one's own user's.
        sys::unshare(libc::CLONE_NEWPID).step("new pid namespace")?;
        if let sys::Fork::Child = sys::fork().step("fork")? {
            sys::close(ZYGOTE_SOCKET);
            sys::close(ENDS_PIPE);
            match init::serve(&private)? {}
        }
        // 6. What it opens itself, its copies can open again through their /proc; none of it is another zygote's.
        sys::unshare(libc::CLONE_NEWNS).step("new mount namespace")?;
        root::make_private(&private)?;
        if spec.program.is_some() {
            root::make_library_places()?;
        }
    } else {
        // Filters are for those with a privilege, or with this.
        sys::no_new_privileges().step("no new privileges")?;
    }
    sys::close(INIT_SOCKET);
    // 7. The interpreter, with signals as a fresh program expects them; or copies of this program as it is.
    sys::reset_signals();
    match &spec.program {
        Some(program) => Err(become_program(program)),
        None => confined::serve(),
    }
}

/// Gives up every privilege, for good; the caller has emptied the bounding set and put the filters on. After this only
/// what the walls let through can be read or written. Without a user of its own a process had no privilege to begin with.
pub(crate) fn confine(user: Option<u32>, landlock_rules: LandlockRules) -> Result<()> {
    if let Some(user) = user {
        sys::become_user(user, user).step("change user")?;
    }
    sys::drop_capabilities().step("drop capabilities")?;
    sys::set_dumpable(true).step("own /proc/self")?;
    sys::no_new_privileges().step("no new privileges")?;
    landlock_rules.enforce().step("landlock")
}

pub(crate) fn become_program(program: &Program) -> crate::Error {
    let strings = |list: &[String]| {
        list.iter()
            .map(|text| CString::new(text.as_bytes()))
            .collect()
    };
    let (args, env): (
        std::result::Result<Vec<_>, _>,
        std::result::Result<Vec<_>, _>,
    ) = (strings(&program.args), strings(&program.env));
    let failure = match (args, env) {
        (Ok(args), Ok(env)) if !args.is_empty() => sys::exec(&args[0], &args, &env),
        _ => io::Error::new(io::ErrorKind::InvalidInput, "a NUL in, or no, arguments"),
    };
    crate::Error::new(
        format!(
            "execute {}",
            program.args.first().map_or("nothing", String::as_str)
        ),
        failure,
    )
}

/// A copy at a number that the fixed descriptors do not use.
fn above(fd: &OwnedFd) -> Result<OwnedFd> {
    let mut kept = Vec::new();
    loop {
        use std::os::fd::AsRawFd;
        let copy = fd.try_clone().step("copy a descriptor")?;
        if copy.as_raw_fd() > ENDS_PIPE {
            return Ok(copy);
        }
        kept.push(copy);
    }
}
