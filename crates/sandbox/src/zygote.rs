//! Virga's side of a zygote: start it, ask it for blanks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::guest::{ForkReply, ForkRequest};
use crate::launch::{SPEC_MAX, ZYGOTE, ZygoteSpec};
use crate::{Pidfd, Result, Step, sys};

/// A zygote. Dropping it ends the process; with it end all instances it made.
#[derive(Debug)]
pub struct Zygote {
    socket: OwnedFd,
    process: Mutex<Child>,
    pid: u32,
}

/// A fresh instance that waits for an assignment.
#[derive(Debug)]
pub struct Forked {
    /// The init's number in virga's pid namespace.
    pub pid: i32,
    /// Kills and awaits the whole instance.
    pub pidfd: Pidfd,
}

/// The ends of an instance's pipes that the guest keeps.
#[derive(Debug)]
pub struct GuestEnds<'a> {
    /// Frames, see [`crate::wire`].
    pub socket: BorrowedFd<'a>,
    /// Standard output and error.
    pub log: BorrowedFd<'a>,
    /// Where the init leaves an [`crate::guest::ExitStatus`].
    pub status: BorrowedFd<'a>,
    /// The network namespace it enters; it makes an empty one where there is none.
    pub network: Option<BorrowedFd<'a>>,
    /// See [`crate::cgroup::Slot::attach_files`].
    pub cgroups: Vec<BorrowedFd<'a>>,
}

impl Zygote {
    /// Starts a zygote, which then warms up; see [`Self::wait_until_warm`]. `virga` is virga's own binary.
    ///
    /// Call from a thread that outlives the zygote: the kernel ends it with the thread that started it.
    ///
    /// # Errors
    /// What failed; the zygote's own message is on standard error.
    pub fn start(virga: &Path, spec: &ZygoteSpec) -> Result<Self> {
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
        let process = Command::new(virga)
            .arg(ZYGOTE)
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .step(format!("start {}", virga.display()))?;
        let zygote = Self {
            socket: ours,
            pid: process.id(),
            process: Mutex::new(process),
        };
        sys::send(zygote.socket.as_fd(), &bytes, &[]).step("send the specification")?;
        Ok(zygote)
    }

    /// Waits until a zygote that was just started can fork. Called once, before the first fork.
    ///
    /// # Errors
    /// What it said instead, or that it ended.
    pub fn wait_until_warm(&self) -> Result<()> {
        match self.reply()? {
            (ForkReply::Ready, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Whether [`Self::wait_until_warm`] would not wait.
    pub fn has_spoken(&self) -> bool {
        sys::is_readable(self.socket.as_fd())
    }

    /// The zygote's process number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes a blank. One thread at a time may ask.
    ///
    /// # Errors
    /// What failed. After an error in talking to it the zygote is of no more use.
    pub fn fork(&self, request: &ForkRequest, ends: &GuestEnds<'_>) -> Result<Forked> {
        let bytes = serde_json::to_vec(request)
            .map_err(io::Error::other)
            .step("write a request")?;
        let mut fds = vec![ends.socket, ends.log, ends.status];
        fds.extend(ends.network);
        fds.extend(&ends.cgroups);
        sys::send(self.socket.as_fd(), &bytes, &fds).step("ask the zygote")?;
        match self.reply()? {
            (ForkReply::Forked(pid), Some(pidfd)) => Ok(Forked {
                pid,
                pidfd: pidfd.into(),
            }),
            (ForkReply::Failed(why), _) => {
                Err(crate::Error::new("fork an instance", io::Error::other(why)))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn reply(&self) -> Result<(ForkReply, Option<OwnedFd>)> {
        let mut bytes = [0; 4096];
        let (length, fds) =
            sys::receive(self.socket.as_fd(), &mut bytes).step("hear from the zygote")?;
        if length == 0 {
            return Err(crate::Error::new(
                "hear from the zygote",
                io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        let reply = serde_json::from_slice(&bytes[..length]).map_err(io::Error::other);
        Ok((
            reply.step("read the zygote's reply")?,
            fds.into_iter().next(),
        ))
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It ends by itself when its socket closes; killing saves waiting for it.
        let process = self
            .process
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn unexpected(reply: &ForkReply) -> crate::Error {
    crate::Error::new(
        "hear from the zygote",
        io::Error::other(format!("unexpected reply: {reply:?}")),
    )
}

/// Hands a blank its assignment: the frame's bytes, and the trees to mount as code and layers.
///
/// # Errors
/// The system's error; `WouldBlock` when the socket's buffer is full, which a blank's never is.
pub fn assign(socket: BorrowedFd<'_>, frame: &[u8], trees: &[BorrowedFd<'_>]) -> io::Result<()> {
    let sent = sys::send(socket, frame, trees)?;
    if sent == frame.len() {
        Ok(())
    } else {
        Err(io::Error::other("the assignment did not fit"))
    }
}
