//! Cells: the namespaces of an instance, held by a process of next to no memory that is the first in them.
//!
//! One process per zygote, a fork of its launcher, makes them while it is still virga's own small program: a fork of
//! the warm interpreter would copy all of its page tables for a process that only waits. The zygote's fork then
//! enters the cell. When the cell's first process ends, the kernel ends all others in it.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::launch::INIT_SOCKET;
use crate::{Result, Step, netlink, root, sys};

/// What a cell is made with. Its network namespace comes along, if it has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitRequest {
    /// The user and group of the instance, its alone.
    pub uid: u32,
    /// Name of the host inside.
    pub hostname: String,
    /// Size of `/tmp`, bytes.
    pub tmp_bytes: u64,
    /// Files and directories in `/tmp`.
    pub tmp_inodes: u64,
}

/// The answer; with a cell comes a pidfd of its first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum InitReply {
    /// It is complete.
    Made,
    /// The step that failed.
    Failed(String),
}

/// Makes cells until virga closes the socket. `private` are the places of the root that each has files of its own at.
pub(crate) fn serve(private: &[PathBuf]) -> Result<Infallible> {
    sys::die_with_parent().step("follow the zygote")?;
    // The kernel reaps what ends; virga watches cells through their pidfds.
    sys::signal_action(libc::SIGCHLD, true);
    let socket = sys::borrow(INIT_SOCKET);
    let own = sys::Pidfd::of_this().step("open own pidfd")?;
    let mut bytes = vec![0; 4096];
    loop {
        let (length, fds) = sys::receive(socket, &mut bytes).step("receive a request")?;
        if length == 0 {
            sys::exit_now(0);
        }
        let (reply, pidfd) = match make(&own, &bytes[..length], fds, private) {
            Ok(pidfd) => (InitReply::Made, Some(pidfd)),
            Err(e) => (InitReply::Failed(e.to_string()), None),
        };
        let text = serde_json::to_vec(&reply)
            .map_err(std::io::Error::other)
            .step("write a reply")?;
        let fds: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        sys::send(socket, &text, &fds).step("send a reply")?;
    }
}

fn make(
    own: &sys::Pidfd,
    bytes: &[u8],
    fds: Vec<OwnedFd>,
    private: &[PathBuf],
) -> Result<sys::Pidfd> {
    let request: InitRequest = serde_json::from_slice(bytes)
        .map_err(std::io::Error::other)
        .step("read a request")?;
    let network = fds.into_iter().next();
    let (mut said, tell) = {
        let (read, write) = sys::close_on_exec_pipe().step("make a pipe")?;
        (File::from(read), File::from(write))
    };
    // A process can leave for a new pid namespace only from its own, hence the way back first.
    sys::setns(own.as_fd(), libc::CLONE_NEWPID).step("own pid namespace")?;
    sys::unshare(libc::CLONE_NEWPID).step("new pid namespace")?;
    match sys::fork().step("fork")? {
        sys::Fork::Child => first_process(&request, network, private, tell),
        sys::Fork::Parent(pid) => {
            let pidfd = sys::Pidfd::open(pid).step("open a pidfd")?;
            drop(tell);
            let mut text = String::new();
            said.read_to_string(&mut text).step("hear from a cell")?;
            match text.as_str() {
                COMPLETE => Ok(pidfd),
                "" => Err(std::io::Error::other("it ended")).step("make a cell"),
                why => Err(std::io::Error::other(why.to_owned())).step("make a cell"),
            }
        }
    }
}

/// What a first process says of itself when all of its cell is made.
const COMPLETE: &str = "complete";

/// The first process: makes the instance's namespaces and file systems, gives up its privileges and waits for its end.
fn first_process(
    request: &InitRequest,
    network: Option<OwnedFd>,
    private: &[PathBuf],
    mut tell: File,
) -> ! {
    match furnish(request, network, private) {
        Ok(listener) => {
            let _ = tell.write_all(COMPLETE.as_bytes());
            drop(tell);
            // Of all descriptors it keeps this one, at another number.
            let kept = sys::dup_to(listener.as_fd(), 0).and_then(|()| sys::close_from(1));
            std::mem::forget(listener);
            match kept {
                Ok(()) => netlink::answer(sys::placed(0).into()),
                Err(_) => sys::exit_now(1),
            }
        }
        Err(e) => {
            let _ = tell.write_all(e.to_string().as_bytes());
            sys::exit_now(1)
        }
    }
}

fn furnish(
    request: &InitRequest,
    network: Option<OwnedFd>,
    private: &[PathBuf],
) -> Result<UnixListener> {
    // 1. End with the maker, and so with the zygote and with virga.
    sys::die_with_parent().step("follow the maker")?;
    // 2. Namespaces; the network's was made by virga, where there is one.
    let all = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    match network {
        Some(made) => {
            sys::unshare(all).step("new namespaces")?;
            sys::setns(made.as_fd(), libc::CLONE_NEWNET).step("enter the network")?;
        }
        None => {
            sys::unshare(all | libc::CLONE_NEWNET).step("new namespaces")?;
            sys::loopback_up().step("loopback")?;
        }
    }
    sys::set_hostname(&request.hostname).step("set the host's name")?;
    // 3. Files and devices whose locks and watches are its own, of which the next hides parts of /proc; a private /proc, names
    //    and a /tmp of its own.
    root::furnish(request, private)?;
    // 4. What it does from now on needs no privilege.
    sys::drop_bounding_set().step("drop the bounding set")?;
    sys::drop_capabilities().step("drop capabilities")?;
    sys::no_new_privileges().step("no new privileges")?;
    // 5. Where the handler's process will say what it is to answer for.
    netlink::listen().step("listen for the handler's process")
}
