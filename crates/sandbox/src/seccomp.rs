//! The system call filter: which system calls a guest may make.
//!
//! Two lists, as data. [`ALLOWED`] is what programs need. Any other call, including those of later kernels, fails with
//! ENOSYS, so that libraries fall back. The calls in [`REFUSED`] fail with EPERM. Installing a filter takes the kernel
//! a large part of a millisecond, so neither is installed while a request waits: the zygote installs the first, which
//! all its children inherit, and a pre-warmed sandbox installs the second.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// System calls that programs need.
#[rustfmt::skip]
const ALLOWED: &[libc::c_long] = &[
    // Files.
    libc::SYS_access, libc::SYS_chdir, libc::SYS_chmod, libc::SYS_chown, libc::SYS_close, libc::SYS_close_range,
    libc::SYS_copy_file_range, libc::SYS_creat, libc::SYS_dup, libc::SYS_dup2, libc::SYS_dup3, libc::SYS_faccessat,
    libc::SYS_faccessat2, libc::SYS_fadvise64, libc::SYS_fallocate, libc::SYS_fchdir, libc::SYS_fchmod,
    libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_fcntl, libc::SYS_fdatasync,
    libc::SYS_fgetxattr, libc::SYS_flistxattr, libc::SYS_flock, libc::SYS_fremovexattr, libc::SYS_fsetxattr,
    libc::SYS_fstat, libc::SYS_fstatfs, libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_futimesat, libc::SYS_getcwd,
    libc::SYS_getdents, libc::SYS_getdents64, libc::SYS_getxattr, libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init, libc::SYS_inotify_init1, libc::SYS_inotify_rm_watch, libc::SYS_ioctl,
    libc::SYS_lchown, libc::SYS_lgetxattr, libc::SYS_link, libc::SYS_linkat, libc::SYS_listxattr,
    libc::SYS_llistxattr, libc::SYS_lremovexattr, libc::SYS_lseek, libc::SYS_lsetxattr, libc::SYS_lstat,
    libc::SYS_mkdir, libc::SYS_mkdirat, libc::SYS_mknod, libc::SYS_mknodat, libc::SYS_newfstatat, libc::SYS_open,
    libc::SYS_openat, libc::SYS_openat2, libc::SYS_pipe, libc::SYS_pipe2, libc::SYS_pread64, libc::SYS_preadv,
    libc::SYS_preadv2, libc::SYS_pwrite64, libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_read,
    libc::SYS_readahead, libc::SYS_readlink, libc::SYS_readlinkat, libc::SYS_readv, libc::SYS_removexattr,
    libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_rmdir, libc::SYS_sendfile,
    libc::SYS_setxattr, libc::SYS_splice, libc::SYS_stat, libc::SYS_statfs, libc::SYS_statx, libc::SYS_symlink,
    libc::SYS_symlinkat, libc::SYS_sync_file_range, libc::SYS_tee, libc::SYS_truncate, libc::SYS_umask,
    libc::SYS_unlink, libc::SYS_unlinkat, libc::SYS_utime, libc::SYS_utimensat, libc::SYS_utimes,
    libc::SYS_vmsplice, libc::SYS_write, libc::SYS_writev,
    // Waiting.
    libc::SYS_epoll_create, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_eventfd2, libc::SYS_poll,
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_select,
    // Memory.
    libc::SYS_brk, libc::SYS_get_mempolicy, libc::SYS_madvise, libc::SYS_mbind, libc::SYS_membarrier,
    libc::SYS_memfd_create, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2, libc::SYS_mlockall,
    libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_msync, libc::SYS_munlock,
    libc::SYS_munlockall, libc::SYS_munmap, libc::SYS_pkey_alloc, libc::SYS_pkey_free, libc::SYS_pkey_mprotect,
    libc::SYS_set_mempolicy,
    // Processes, threads and signals.
    libc::SYS_alarm, libc::SYS_arch_prctl, libc::SYS_clone, libc::SYS_clone3, libc::SYS_execve,
    libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_fork, libc::SYS_futex,
    libc::SYS_futex_waitv, libc::SYS_get_robust_list, libc::SYS_getcpu, libc::SYS_getitimer, libc::SYS_getpgid,
    libc::SYS_getpgrp, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getpriority, libc::SYS_getrlimit,
    libc::SYS_getrusage, libc::SYS_getsid, libc::SYS_gettid, libc::SYS_ioprio_get, libc::SYS_ioprio_set,
    libc::SYS_kill, libc::SYS_pause, libc::SYS_personality, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal,
    libc::SYS_prctl, libc::SYS_prlimit64, libc::SYS_restart_syscall, libc::SYS_rseq, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max, libc::SYS_sched_get_priority_min, libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr, libc::SYS_sched_getparam, libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval, libc::SYS_sched_setaffinity, libc::SYS_sched_setattr,
    libc::SYS_sched_setparam, libc::SYS_sched_setscheduler, libc::SYS_sched_yield, libc::SYS_set_robust_list,
    libc::SYS_set_tid_address, libc::SYS_setitimer, libc::SYS_setpgid, libc::SYS_setpriority,
    libc::SYS_setrlimit, libc::SYS_setsid, libc::SYS_sigaltstack, libc::SYS_signalfd, libc::SYS_signalfd4,
    libc::SYS_tgkill, libc::SYS_tkill, libc::SYS_vfork, libc::SYS_wait4, libc::SYS_waitid,
    // Users. There is no privilege to change to another.
    libc::SYS_capget, libc::SYS_capset, libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getgroups, libc::SYS_getresgid, libc::SYS_getresuid, libc::SYS_getuid, libc::SYS_setfsgid,
    libc::SYS_setfsuid, libc::SYS_setgid, libc::SYS_setgroups, libc::SYS_setregid, libc::SYS_setresgid,
    libc::SYS_setresuid, libc::SYS_setreuid, libc::SYS_setuid,
    // Time.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_nanosleep, libc::SYS_time, libc::SYS_timer_create, libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun, libc::SYS_timer_gettime, libc::SYS_timer_settime, libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime, libc::SYS_timerfd_settime, libc::SYS_times,
    // Sockets, and communication between a guest's own processes.
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_connect, libc::SYS_getpeername,
    libc::SYS_getsockname, libc::SYS_getsockopt, libc::SYS_listen, libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify, libc::SYS_mq_open, libc::SYS_mq_timedreceive, libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink, libc::SYS_msgctl, libc::SYS_msgget, libc::SYS_msgrcv, libc::SYS_msgsnd,
    libc::SYS_recvfrom, libc::SYS_recvmmsg, libc::SYS_recvmsg, libc::SYS_semctl, libc::SYS_semget,
    libc::SYS_semop, libc::SYS_semtimedop, libc::SYS_sendmmsg, libc::SYS_sendmsg, libc::SYS_sendto,
    libc::SYS_setsockopt, libc::SYS_shmat, libc::SYS_shmctl, libc::SYS_shmdt, libc::SYS_shmget,
    libc::SYS_shutdown, libc::SYS_socket, libc::SYS_socketpair,
    // System information, and further confinement of oneself.
    libc::SYS_getrandom, libc::SYS_landlock_add_rule, libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self, libc::SYS_seccomp, libc::SYS_sysinfo, libc::SYS_uname,
];

/// System calls that the platform itself makes under the filter: mounting the code. A guest has neither the capability
/// nor the Landlock right for it.
const SETUP: &[libc::c_long] = &[libc::SYS_move_mount];

/// Fail with EPERM, whatever the arguments.
#[rustfmt::skip]
const REFUSED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Namespaces.
    libc::SYS_unshare, libc::SYS_setns,
    // Other processes' memory.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_kcmp, libc::SYS_pidfd_getfd,
    // Programs and events in the kernel.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Keyrings, which are not namespaced.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // The machine itself, and its name.
    libc::SYS_sethostname, libc::SYS_setdomainname,
    libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_syslog, libc::SYS_settimeofday,
    libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_iopl, libc::SYS_ioperm,
    libc::SYS_vhangup, libc::SYS_modify_ldt, libc::SYS_fanotify_init,
    // Files by handle, which bypasses mounts.
    libc::SYS_name_to_handle_at, libc::SYS_open_by_handle_at,
    // Memory placement of other processes.
    libc::SYS_move_pages, libc::SYS_migrate_pages,
];

/// `clone` flags that make a namespace.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Socket families that functions may use. Every other family is needless kernel attack surface.
const FAMILIES: &[libc::c_int] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];
/// Socket types, by mask and value, that functions may not use in any family: 0, 4, 6, 7 and above.
const OTHER_TYPES: &[(u64, u64)] = &[(0xf, 0), (0xf, 4), (0xe, 6), (0x8, 0x8)];
/// The type bits of a socket's type; others are flags. Source: `SOCK_TYPE_MASK` of the kernel.
const TYPE_MASK: u64 = 0xf;

/// Socket options, by level and number, that load a program or another protocol into the kernel.
#[rustfmt::skip]
const SOCKET_OPTIONS: &[(libc::c_int, libc::c_int)] = &[
    (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER), (libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
    (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF), (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
    (libc::IPPROTO_TCP, libc::TCP_ULP), (libc::IPPROTO_TCP, libc::TCP_REPAIR), (libc::IPPROTO_UDP, UDP_ENCAP),
];
/// Source: `linux/udp.h`.
const UDP_ENCAP: libc::c_int = 100;

/// The compiled filters.
pub(crate) struct Filters {
    allowing: BpfProgram,
    refusing: [BpfProgram; 2],
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Compiles the filters, once per zygote.
pub(crate) fn compile() -> io::Result<Filters> {
    let build = || -> Result<Filters, Failure> {
        Ok(Filters {
            allowing: allowing()?,
            refusing: refusing()?,
        })
    };
    build().map_err(io::Error::other)
}

impl Filters {
    /// Installs the first filter: only known calls exist. Needs a privilege or `no_new_privs`.
    pub(crate) fn allow_known(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.allowing).map_err(io::Error::other)
    }

    /// Installs the second filter. If both filters refuse a call, the error of the later one applies.
    pub(crate) fn refuse(&self) -> io::Result<()> {
        self.refusing
            .iter()
            .try_for_each(|program| seccompiler::apply_filter(program).map_err(io::Error::other))
    }
}

fn allowing() -> Result<BpfProgram, Failure> {
    // Refused calls must pass this filter, so that the other one decides the error.
    let all = ALLOWED.iter().chain(SETUP).chain(REFUSED);
    let rules = all.map(|call| (*call, vec![])).collect();
    let unknown = SeccompAction::Errno(libc::ENOSYS as u32);
    Ok(SeccompFilter::new(rules, unknown, SeccompAction::Allow, architecture()?)?.try_into()?)
}

fn refusing() -> Result<[BpfProgram; 2], Failure> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, vec![])).collect();
    // Any namespace flag: one rule per flag, because a mask is compared with a single value.
    let mut cloning = Vec::new();
    for bit in (0..64)
        .map(|n| 1u64 << n)
        .filter(|bit| NAMESPACES & bit != 0)
    {
        let set = SeccompCondition::new(0, Len::Qword, Op::MaskedEq(bit), bit)?;
        cloning.push(SeccompRule::new(vec![set])?);
    }
    refused.insert(libc::SYS_clone, cloning);
    refused.insert(libc::SYS_socket, other_sockets()?);
    let not_unix = is(0, Op::Ne, value(libc::AF_UNIX));
    refused.insert(libc::SYS_socketpair, vec![rule([not_unix])?]);
    let options = SOCKET_OPTIONS
        .iter()
        .map(|(level, option)| rule([is(1, Op::Eq, value(*level)), is(2, Op::Eq, value(*option))]));
    refused.insert(libc::SYS_setsockopt, options.collect::<Result<_, _>>()?);
    // Only the default personality, and queries: others disable memory protections.
    let others =
        [0, 0xffff_ffff].map(|ordinary| SeccompCondition::new(0, Len::Dword, Op::Ne, ordinary));
    let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    refused.insert(libc::SYS_personality, vec![SeccompRule::new(others)?]);
    // Injecting input into a terminal that another process reads.
    let push = SeccompCondition::new(1, Len::Dword, Op::Eq, libc::TIOCSTI)?;
    refused.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![push])?]);

    // The flags of `clone3` are in memory, which a filter cannot read; ENOSYS makes libc fall back to `clone`. Reads
    // that return only cached data (RWF_NOWAIT) reveal what others have read, as `cachestat` and `mincore` do.
    let at_once = rule([is(
        5,
        Op::MaskedEq(libc::RWF_NOWAIT as u64),
        libc::RWF_NOWAIT as u64,
    )])?;
    let unknown = BTreeMap::from([
        (libc::SYS_clone3, vec![]),
        (libc::SYS_preadv2, vec![at_once]),
    ]);
    Ok([
        program(refused, libc::EPERM)?,
        program(unknown, libc::ENOSYS)?,
    ])
}

/// Returns rules that match every socket that functions may not open. Installing the filter takes longer with each rule
/// and is done per instance, so within a family only types and protocols are listed that the kernel could support.
fn other_sockets() -> Result<Vec<SeccompRule>, Failure> {
    let kind = |number| is(1, Op::MaskedEq(TYPE_MASK), value(number));
    let mut rules = vec![rule(FAMILIES.iter().map(|one| is(0, Op::Ne, value(*one))))?];
    for (mask, number) in OTHER_TYPES {
        rules.push(rule([is(1, Op::MaskedEq(*mask), *number)])?);
    }
    for family in [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6] {
        let family = is(0, Op::Eq, value(family));
        rules.push(rule([family, kind(libc::SOCK_RAW)])?);
    }
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = || is(0, Op::Eq, value(family));
        rules.push(rule([family(), kind(libc::SOCK_SEQPACKET)])?);
        // The kernel refuses a protocol that does not match the type.
        let protocols = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
        let other = protocols.map(|one| is(2, Op::Ne, value(one)));
        rules.push(rule([family()].into_iter().chain(other))?);
    }
    let routes = is(2, Op::Ne, value(libc::NETLINK_ROUTE));
    rules.push(rule([is(0, Op::Eq, value(libc::AF_NETLINK)), routes])?);
    Ok(rules)
}

/// Returns an `int` as a condition compares it.
fn value(number: libc::c_int) -> u64 {
    u64::from(number.cast_unsigned())
}

/// Returns a condition on the lower half of an argument, which is all that the kernel reads of an `int`.
fn is(argument: u8, op: Op, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Len::Dword, op, value)
}

/// Returns a rule that matches if all conditions do.
fn rule(
    conditions: impl IntoIterator<Item = Result<SeccompCondition, seccompiler::BackendError>>,
) -> Result<SeccompRule, Failure> {
    Ok(SeccompRule::new(
        conditions.into_iter().collect::<Result<_, _>>()?,
    )?)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> Result<BpfProgram, Failure> {
    let refuse = SeccompAction::Errno(errno as u32);
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture()?)?.try_into()?)
}

fn architecture() -> Result<TargetArch, Failure> {
    Ok(TargetArch::try_from(std::env::consts::ARCH)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syscall_lists_are_disjoint_and_compile() {
        for call in ALLOWED {
            assert!(!REFUSED.contains(call), "call {call} is in both lists");
        }
        assert!(compile().is_ok());
    }
}
