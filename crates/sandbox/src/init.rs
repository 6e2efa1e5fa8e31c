//! The sandbox init: a tiny process that is pid 1 of an instance and owns its namespaces.
//!
//! One process per zygote makes them. It is forked from the launcher while that is still virga's own small program: a
//! fork of the warm interpreter would copy all its page tables for a process that only waits. The zygote's fork then
//! enters the namespaces. When the sandbox init ends, the kernel kills all other processes of the instance.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::descriptors::INIT_SOCKET;
use crate::init_request::{InitReply, InitRequest};
use crate::{Result, Step, netlink, root, sys};

/// Makes sandbox inits until virga closes the socket. `private` lists the paths of the root that get private files.
pub(crate) fn serve(private: &[PathBuf]) -> Result<Infallible> {
    sys::die_with_parent().step("set the parent-death signal")?;
    // The kernel reaps children; virga watches sandbox inits through their pidfds.
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
    let (mut reader, report) = {
        let (read, write) = sys::close_on_exec_pipe().step("make a pipe")?;
        (File::from(read), File::from(write))
    };
    // A process may enter a new pid namespace only from its own, so return there first.
    sys::setns(own.as_fd(), libc::CLONE_NEWPID).step("own pid namespace")?;
    sys::unshare(libc::CLONE_NEWPID).step("new pid namespace")?;
    match sys::fork().step("fork")? {
        sys::Fork::Child => run_init(&request, network, private, report),
        sys::Fork::Parent(pid) => {
            let pidfd = sys::Pidfd::open(pid).step("open a pidfd")?;
            drop(report);
            let mut text = String::new();
            reader
                .read_to_string(&mut text)
                .step("wait for the sandbox init")?;
            match text.as_str() {
                COMPLETE => Ok(pidfd),
                "" => Err(std::io::Error::other("it exited")).step("make a sandbox init"),
                why => Err(std::io::Error::other(why.to_owned())).step("make a sandbox init"),
            }
        }
    }
}

/// Message of a sandbox init when its setup is complete.
const COMPLETE: &str = "complete";

/// Runs the sandbox init: makes the instance's namespaces and file systems, drops all privileges and waits.
fn run_init(
    request: &InitRequest,
    network: Option<OwnedFd>,
    private: &[PathBuf],
    mut report: File,
) -> ! {
    match set_up_sandbox(request, network, private) {
        Ok(listener) => {
            let _ = report.write_all(COMPLETE.as_bytes());
            drop(report);
            // The only descriptor that it keeps, moved to number 0.
            let kept = sys::dup_to(listener.as_fd(), 0).and_then(|()| sys::close_from(1));
            std::mem::forget(listener);
            match kept {
                Ok(()) => netlink::answer(sys::placed(0).into()),
                Err(_) => sys::exit_now(1),
            }
        }
        Err(e) => {
            let _ = report.write_all(e.to_string().as_bytes());
            sys::exit_now(1)
        }
    }
}

fn set_up_sandbox(
    request: &InitRequest,
    network: Option<OwnedFd>,
    private: &[PathBuf],
) -> Result<UnixListener> {
    // 1. Die with the maker, and so with the zygote and virga.
    sys::die_with_parent().step("set the parent-death signal")?;
    // 2. Namespaces. Virga made the network namespace, if there is one.
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
    // 3. Private files and devices, whose locks and watches are its own. They come first: the private /proc of the next
    //    step hides some of its entries behind the devices. Then user names and /tmp.
    root::set_up_sandbox(request, private)?;
    // 4. From here on no privilege is needed.
    sys::drop_bounding_set().step("drop the bounding set")?;
    sys::drop_capabilities().step("drop capabilities")?;
    sys::no_new_privileges().step("no new privileges")?;
    // 5. Listen for the handler process, which sends its seccomp notification descriptor.
    netlink::listen().step("listen for the handler process")
}
