//! Limits the number of netlink sockets of an instance.
//!
//! Programs list interfaces with them, so they cannot be refused. But what the kernel queues in one until it is read
//! counts for no control group. A seccomp notification therefore asks the sandbox init before each is made; it counts
//! them in the instance's network namespace.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use crate::sys::{self, Decision};

/// Maximum number at a time. Each holds at most twice the host's `net.core.rmem_max`, 425 KB by default.
const MAX_SOCKETS: usize = 16;
/// Counting takes time on a host with many instances and is charged to no control group, so it may use at most one part
/// in this many of the time.
const TIME_SHARE: u32 = 20;
/// Maximum pause between counts.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// Abstract address of the sandbox init in the instance's network namespace. No user code runs there yet.
const NAME: &[u8] = b"virga-init";

/// In the sandbox init: listens for the handler process; see [`watch`].
pub(crate) fn listen() -> io::Result<UnixListener> {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(NAME)?)
}

/// In the handler process, in its namespaces: from here on the sandbox init is asked before each netlink socket.
pub(crate) fn watch() -> io::Result<()> {
    let first = UnixStream::connect_addr(&SocketAddr::from_abstract_name(NAME)?)?;
    let asked = sys::notify_netlink_sockets()?;
    sys::send(first.as_fd(), b"x", &[asked.as_fd()]).map(drop)
}

/// In the sandbox init: answers for the instance's lifetime.
pub(crate) fn answer(listener: UnixListener) -> ! {
    sys::signal_action(libc::SIGCHLD, true);
    if let Ok(asked) = accept(listener) {
        let _ = answer_all(&asked);
    }
    sys::wait_for_the_end()
}

fn accept(listener: UnixListener) -> io::Result<OwnedFd> {
    let (stream, _) = listener.accept()?;
    drop(listener);
    let (_, fds) = sys::receive(stream.as_fd(), &mut [0])?;
    let none = || io::Error::other("nothing to listen to came");
    fds.into_iter().next().ok_or_else(none)
}

fn answer_all(asked: &OwnedFd) -> io::Result<()> {
    // How many more may be made before the next count, and the earliest time of that count.
    let mut left = MAX_SOCKETS;
    let mut next = Instant::now();
    loop {
        let question = sys::next_notification(asked)?;
        if left == 0 {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            left = MAX_SOCKETS.saturating_sub(count());
            next = Instant::now() + (begun.elapsed() * TIME_SHARE).min(PAUSE_MAX);
        }
        let answer = match left {
            0 => Decision::Refuse(libc::EMFILE),
            _ => Decision::Go,
        };
        left = left.saturating_sub(1);
        sys::send_decision(asked, question, answer)?;
    }
}

/// Counts the netlink sockets of this network namespace that have an address; others receive nothing. Returns
/// `usize::MAX` if they cannot be counted.
fn count() -> usize {
    fs::read_to_string("/proc/self/net/netlink").map_or(usize::MAX, |text| in_use(&text))
}

/// Counts the lines after the header whose address (third column) is not 0, the kernel's.
fn in_use(table: &str) -> usize {
    let addresses = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(2));
    addresses.filter(|address| *address != "0").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_sockets_are_not_counted() {
        let table = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   0          00000000 0        0        0     2        0        1193
0000000000000000 0   4242       00000001 0        0        0     2        0        90210
0000000000000000 0   3221220352 00000000 0        0        0     2        0        90211
0000000000000000 16  0          00000000 0        0        0     2        0        1201
";
        assert_eq!(in_use(table), 2);
    }
}
