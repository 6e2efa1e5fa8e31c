//! Virga's side of a zygote: starts it, and requests pre-warmed sandboxes from it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::guest::{ForkReply, ForkRequest};
use crate::init_request::{InitReply, InitRequest};
use crate::launch::{SPEC_MAX, ZYGOTE, ZygoteSpec};
use crate::{Pidfd, Result, Step, sys};

/// A zygote process. Dropping it kills the process and all instances that it made.
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    init_socket: OwnedFd,
    process: Child,
}

/// The guest's ends of its channels to virga.
#[derive(Debug)]
pub struct GuestEnds<'a> {
    /// Socket for the assignment; see [`crate::wire`].
    pub socket: BorrowedFd<'a>,
    /// Pipe for standard output and error.
    pub log: BorrowedFd<'a>,
    /// See [`crate::cgroup::CgroupSlot::attach_files`].
    pub cgroups: Vec<BorrowedFd<'a>>,
}

/// Mimalloc would commit a gigabyte at once, which exceeds a memory limit per process.
const ALLOCATOR_ENV: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

impl Zygote {
    /// Starts a zygote, which then warms up; see [`Self::wait_until_warm`]. `virga` is the path of virga's own binary.
    /// Also returns the pipe that reports exits of its copies as [`crate::guest::Ended`] messages.
    ///
    /// Call it from a thread that outlives the zygote: the kernel kills the zygote with the thread that started it.
    ///
    /// # Errors
    /// The step that failed. The zygote's own message goes to standard error.
    pub fn start(virga: &Path, spec: &ZygoteSpec) -> Result<(Self, OwnedFd)> {
        let bytes = serde_json::to_vec(spec)
            .map_err(io::Error::other)
            .step("write the specification")?;
        if bytes.len() > SPEC_MAX {
            return Err(crate::Error::new(
                "write the specification",
                io::Error::other("it is too long"),
            ));
        }
        let (ours, theirs) = sys::packet_pair().step("make the zygote's socket")?;
        let (init_socket, maker) = sys::packet_pair().step("make the zygote's other socket")?;
        let (ends, told) = sys::close_on_exec_pipe().step("make the zygote's pipe")?;
        let process = Command::new(virga)
            .arg(ZYGOTE)
            .env_clear()
            .envs([ALLOCATOR_ENV])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(maker))
            .stderr(Stdio::inherit())
            .spawn()
            .step(format!("start {}", virga.display()))?;
        let zygote = Self {
            socket: ours,
            init_socket,
            process,
        };
        sys::send(zygote.socket.as_fd(), &bytes, &[told.as_fd()]).step("send the specification")?;
        Ok((zygote, ends))
    }

    /// Waits until a new zygote can fork. Call it once, before the first fork.
    ///
    /// # Errors
    /// The zygote ended or sent something else.
    pub fn wait_until_warm(&self) -> Result<()> {
        match self.reply()?.0 {
            ForkReply::Ready => Ok(()),
            other => Err(unexpected(format!("{other:?} came first"))),
        }
    }

    /// Returns whether [`Self::wait_until_warm`] would return without waiting.
    pub fn has_spoken(&self) -> bool {
        sys::is_readable(self.socket.as_fd())
    }

    /// Returns a descriptor to watch for its exit.
    ///
    /// # Errors
    /// The system's error.
    pub fn watch(&self) -> Result<Pidfd> {
        Pidfd::open(self.pid() as i32).step("watch a zygote")
    }

    /// Returns the process id of the zygote.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Makes a sandbox init. Returns a pidfd that kills and awaits the whole instance. `network` is the network
    /// namespace to enter; by default an empty one is made. Only one thread may call this at a time.
    ///
    /// # Errors
    /// The step that failed. After a communication error the zygote cannot be used any more.
    pub fn make_init(
        &self,
        request: &InitRequest,
        network: Option<BorrowedFd<'_>>,
    ) -> Result<Pidfd> {
        let bytes = to_json(request)?;
        let fds: Vec<_> = network.into_iter().collect();
        sys::send(self.init_socket.as_fd(), &bytes, &fds).step("request a sandbox init")?;
        match receive_reply(self.init_socket.as_fd())? {
            (InitReply::Made, Some(pidfd)) => Ok(pidfd.into()),
            (InitReply::Made, None) => Err(unexpected("the reply has no pidfd")),
            (InitReply::Failed(why), _) => Err(unexpected(why)),
        }
    }

    /// Forks a pre-warmed sandbox into the namespaces of `init`, or without any. Returns a pidfd that kills and awaits
    /// it. Only one thread may call this at a time.
    ///
    /// # Errors
    /// The step that failed. After a communication error the zygote cannot be used any more.
    pub fn fork(
        &self,
        request: &ForkRequest,
        init: Option<Pidfd>,
        ends: &GuestEnds<'_>,
    ) -> Result<Pidfd> {
        let bytes = to_json(request)?;
        let mut fds = vec![ends.socket, ends.log];
        fds.extend(init.as_ref().map(AsFd::as_fd));
        fds.extend(&ends.cgroups);
        let answer = sys::send(self.socket.as_fd(), &bytes, &fds)
            .step("ask the zygote")
            .and_then(|_| self.reply());
        match (answer, init) {
            (Ok((ForkReply::Forked, _)), Some(init)) => Ok(init),
            (Ok((ForkReply::Forked, Some(process))), None) => Ok(process.into()),
            (failed, init) => {
                if let Some(init) = init {
                    let _ = init.kill();
                }
                Err(match failed {
                    Ok((ForkReply::Failed(why), _)) => unexpected(why),
                    Ok((other, _)) => unexpected(format!("{other:?}")),
                    Err(e) => e,
                })
            }
        }
    }

    fn reply(&self) -> Result<(ForkReply, Option<OwnedFd>)> {
        receive_reply(self.socket.as_fd())
    }
}

fn to_json(request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request)
        .map_err(io::Error::other)
        .step("write a request")
}

fn receive_reply<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Option<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let (length, fds) = sys::receive(socket, &mut bytes).step("receive from the zygote")?;
    if length == 0 {
        return Err(unexpected("it has exited"));
    }
    let reply = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other);
    Ok((
        reply.step("read the zygote's reply")?,
        fds.into_iter().next(),
    ))
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It exits when its socket closes; killing it is faster.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unexpected(what: impl Into<String>) -> crate::Error {
    crate::Error::new("receive from the zygote", io::Error::other(what.into()))
}

/// Sends a pre-warmed sandbox its assignment: the frame, the guest's ends of its pipes and its start mark, and the mounts
/// of code and layers.
///
/// # Errors
/// The system's error. `WouldBlock` when the socket's buffer is full, which does not happen before the assignment.
pub fn assign(
    socket: BorrowedFd<'_>,
    frame: &[u8],
    pipes: [BorrowedFd<'_>; 3],
    trees: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let sent = sys::send(socket, frame, &[&pipes, trees].concat())?;
    if sent == frame.len() {
        Ok(())
    } else {
        Err(io::Error::other("the assignment did not fit"))
    }
}
