//! Virga's side of a zygote: start it, ask it for blanks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::guest::{ForkReply, ForkRequest};
use crate::init::{InitReply, InitRequest};
use crate::launch::{SPEC_MAX, ZYGOTE, ZygoteSpec};
use crate::{Pidfd, Result, Step, sys};

/// A zygote. Dropping it ends the process; with it end all instances it made.
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    inits: OwnedFd,
    process: Child,
}

/// The ends of an instance's pipes that the guest keeps.
#[derive(Debug)]
pub struct GuestEnds<'a> {
    /// Where its assignment comes, see [`crate::wire`].
    pub socket: BorrowedFd<'a>,
    /// Standard output and error.
    pub log: BorrowedFd<'a>,
    /// See [`crate::cgroup::CgroupSlot::attach_files`].
    pub cgroups: Vec<BorrowedFd<'a>>,
}

/// The binary's allocator would make a gigabyte writable at once, all of which counts where a limit of memory is of a process.
const MODEST: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

impl Zygote {
    /// Starts a zygote, which then warms up; see [`Self::wait_until_warm`]. `virga` is virga's own binary. With it comes the pipe
    /// in which it tells how its copies ended, in [`crate::guest::Ended`]s.
    ///
    /// Call from a thread that outlives the zygote: the kernel ends it with the thread that started it.
    ///
    /// # Errors
    /// What failed; the zygote's own message is on standard error.
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
        let (inits, maker) = sys::packet_pair().step("make the zygote's other socket")?;
        let (ends, told) = sys::close_on_exec_pipe().step("make the zygote's pipe")?;
        let process = Command::new(virga)
            .arg(ZYGOTE)
            .env_clear()
            .envs([MODEST])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(maker))
            .stderr(Stdio::inherit())
            .spawn()
            .step(format!("start {}", virga.display()))?;
        let zygote = Self {
            socket: ours,
            inits,
            process,
        };
        sys::send(zygote.socket.as_fd(), &bytes, &[told.as_fd()]).step("send the specification")?;
        Ok((zygote, ends))
    }

    /// Waits until a zygote that was just started can fork. Called once, before the first fork.
    ///
    /// # Errors
    /// What it said instead, or that it ended.
    pub fn wait_until_warm(&self) -> Result<()> {
        match self.reply()?.0 {
            ForkReply::Ready => Ok(()),
            other => Err(unexpected(format!("{other:?} came first"))),
        }
    }

    /// Whether [`Self::wait_until_warm`] would not wait.
    pub fn has_spoken(&self) -> bool {
        sys::is_readable(self.socket.as_fd())
    }

    /// Something to watch its end with.
    ///
    /// # Errors
    /// The system's error.
    pub fn watch(&self) -> Result<Pidfd> {
        Pidfd::open(self.pid() as i32).step("watch a zygote")
    }

    /// The zygote's process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Makes a cell, and gives what kills and awaits the whole instance; `network` is the namespace it enters, where it is not to have an empty one. One thread at a time
    /// may ask.
    ///
    /// # Errors
    /// What failed. After an error in talking to it the zygote is of no more use.
    pub fn make_init(
        &self,
        request: &InitRequest,
        network: Option<BorrowedFd<'_>>,
    ) -> Result<Pidfd> {
        let bytes = to_json(request)?;
        let fds: Vec<_> = network.into_iter().collect();
        sys::send(self.inits.as_fd(), &bytes, &fds).step("ask for a cell")?;
        match hear(self.inits.as_fd())? {
            (InitReply::Made, Some(pidfd)) => Ok(pidfd.into()),
            (InitReply::Made, None) => Err(unexpected("no pidfd came with a cell")),
            (InitReply::Failed(why), _) => Err(unexpected(why)),
        }
    }

    /// Makes a blank in a cell, or without one, and gives what kills and awaits it. One thread at a time may ask.
    ///
    /// # Errors
    /// What failed. After an error in talking to it the zygote is of no more use.
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
        hear(self.socket.as_fd())
    }
}

fn to_json(request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request)
        .map_err(io::Error::other)
        .step("write a request")
}

fn hear<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Option<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let (length, fds) = sys::receive(socket, &mut bytes).step("hear from the zygote")?;
    if length == 0 {
        return Err(unexpected("it has ended"));
    }
    let reply = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other);
    Ok((
        reply.step("read the zygote's reply")?,
        fds.into_iter().next(),
    ))
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It ends by itself when its socket closes; killing saves waiting for it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unexpected(what: impl Into<String>) -> crate::Error {
    crate::Error::new("hear from the zygote", io::Error::other(what.into()))
}

/// Hands a blank its assignment: the frame's bytes, the ends of the pipes that it reads from and writes to, and the trees to
/// mount as code and layers.
///
/// # Errors
/// The system's error; `WouldBlock` when the socket's buffer is full, which a blank's never is.
pub fn assign(
    socket: BorrowedFd<'_>,
    frame: &[u8],
    pipes: [BorrowedFd<'_>; 2],
    trees: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let sent = sys::send(socket, frame, &[&pipes, trees].concat())?;
    if sent == frame.len() {
        Ok(())
    } else {
        Err(io::Error::other("the assignment did not fit"))
    }
}
