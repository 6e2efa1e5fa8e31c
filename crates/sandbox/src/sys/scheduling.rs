//! Scheduling of threads.

use std::io;
use std::mem;

use super::check::check_long;

/// Requests a short scheduling slice for this thread and its children, so that on busy processors they run soon after
/// waking. Their share of CPU time is unchanged. Needs Linux 6.12.
///
/// # Errors
/// The system's error.
pub fn short_turns() -> io::Result<()> {
    turns(libc::SCHED_OTHER, 100_000)
}

/// Requests a short scheduling slice without wakeup preemption. For instances, many of which wake when virga sends them
/// something: otherwise each would interrupt virga.
///
/// # Errors
/// The system's error.
pub(crate) fn patient_turns() -> io::Result<()> {
    turns(libc::SCHED_BATCH, 300_000)
}

fn turns(policy: libc::c_int, nanoseconds: u64) -> io::Result<()> {
    /// `struct sched_attr` of its first version, include/uapi/linux/sched/types.h.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime_ns: u64,
        deadline_ns: u64,
        period_ns: u64,
    }
    let wish = Attributes {
        size: mem::size_of::<Attributes>() as u32,
        policy: policy.cast_unsigned(),
        runtime_ns: nanoseconds,
        ..Attributes::default()
    };
    // SAFETY: the kernel reads as many bytes of the live value as its first field says.
    check_long(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) }).map(drop)
}
