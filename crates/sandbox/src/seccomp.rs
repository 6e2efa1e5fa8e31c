//! The system call filter: what is refused whatever else a guest achieves.
//!
//! A deny-list over calls that no function needs and that reach deep into the kernel. The mounts, the
//! lost capabilities and landlock stand before it; the filter keeps their walls from being worked on.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// Refused with EPERM whatever the arguments.
#[rustfmt::skip]
const REFUSED: &[libc::c_long] = &[
    // Mounts and roots.
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_move_mount,
    libc::SYS_open_tree, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Namespaces.
    libc::SYS_unshare, libc::SYS_setns,
    // Other processes' memory.
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_process_madvise,
    libc::SYS_kcmp, libc::SYS_pidfd_getfd,
    // Programs and events inside the kernel.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Keyrings, which are not namespaced.
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    // The machine itself.
    libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module, libc::SYS_finit_module,
    libc::SYS_delete_module, libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_quotactl_fd, libc::SYS_syslog, libc::SYS_settimeofday,
    libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_iopl, libc::SYS_ioperm,
    libc::SYS_vhangup, libc::SYS_modify_ldt, libc::SYS_fanotify_init,
    // Files by handle, which passes the mounts by.
    libc::SYS_name_to_handle_at, libc::SYS_open_by_handle_at,
    // Placement of memory on other processes' behalf.
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

/// Sockets that a function may open: everything else is a way into the kernel that it does not need.
const FAMILIES: &[libc::c_int] = &[
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// The compiled filters, in the order in which they are applied.
pub(crate) type Programs = Vec<BpfProgram>;

/// Compiles the filters. Done once per zygote.
pub(crate) fn compile() -> io::Result<Programs> {
    build().map_err(io::Error::other)
}

fn build() -> Result<Programs, Box<dyn std::error::Error + Send + Sync>> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, vec![])).collect();
    // Any namespace flag set: one rule per flag, since a rule's mask compares with one value.
    let mut cloning = Vec::new();
    for bit in (0..64)
        .map(|n| 1u64 << n)
        .filter(|bit| NAMESPACES & bit != 0)
    {
        let set = SeccompCondition::new(0, Len::Qword, Op::MaskedEq(bit), bit)?;
        cloning.push(SeccompRule::new(vec![set])?);
    }
    refused.insert(libc::SYS_clone, cloning);
    let other_family = FAMILIES
        .iter()
        .map(|family| SeccompCondition::new(0, Len::Dword, Op::Ne, *family as u64))
        .collect::<Result<Vec<_>, _>>()?;
    refused.insert(libc::SYS_socket, vec![SeccompRule::new(other_family)?]);
    // Pushing input to a terminal that someone else reads.
    let push = SeccompCondition::new(1, Len::Dword, Op::Eq, libc::TIOCSTI)?;
    refused.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![push])?]);

    // The flags of `clone3` lie in memory, out of a filter's sight; "no such call" makes libc use `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    Ok(vec![
        program(refused, libc::EPERM)?,
        program(unknown, libc::ENOSYS)?,
    ])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> Result<BpfProgram, Box<dyn std::error::Error + Send + Sync>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refuse = SeccompAction::Errno(errno as u32);
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
}

/// Puts the filters on this process and all that it starts.
pub(crate) fn apply(programs: &Programs) -> io::Result<()> {
    programs
        .iter()
        .try_for_each(|program| seccompiler::apply_filter(program).map_err(io::Error::other))
}
