//! Seccomp: system calls that a proxy never makes fail with EPERM.
//!
//! What is refused: to start a program or another process, to look into one, to change mounts,
//! namespaces, users, clocks or the kernel, to reach its rarely used and often broken parts, and
//! memory that can be written and executed.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::SandboxError;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused on every processor.
const REFUSED: [i64; 71] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_memfd_create,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknodat,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_remap_file_pages,
    libc::SYS_mlockall,
];

/// System calls with 32-bit pointers on the same processor, under other numbers.
#[cfg(target_arch = "x86_64")]
const X32: std::ops::RangeInclusive<i64> = 0x4000_0000..=0x4000_0000 + 547;

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [i64; 8] = [
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
    libc::SYS_uselib,
    libc::SYS_mknod,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [i64; 0] = [];

/// Applies to this thread and those that it starts.
pub(super) fn restrict() -> Result<(), SandboxError> {
    let here = std::env::consts::ARCH;
    let arch = TargetArch::try_from(here).map_err(|_| SandboxError::NoSeccomp)?;
    install(absent(), libc::ENOSYS, arch)?;
    install(refused()?, libc::EPERM, arch)
}

fn install(rules: Rules, errno: i32, arch: TargetArch) -> Result<(), SandboxError> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)?;
    let program: seccompiler::BpfProgram = filter.try_into()?;
    apply_filter(&program).map_err(SandboxError::Seccomp)
}

/// What this kernel is made to look without: `clone3` hides its flags behind a pointer, and the C
/// library takes `clone` instead.
fn absent() -> Rules {
    let clone = [(libc::SYS_clone3, Vec::new())];
    #[cfg(target_arch = "x86_64")]
    let clone = clone
        .into_iter()
        .chain(X32.map(|number| (number, Vec::new())));
    clone.into_iter().collect()
}

fn refused() -> Result<Rules, SandboxError> {
    let always = REFUSED.into_iter().chain(REFUSED_HERE);
    let mut rules: Rules = always.map(|number| (number, Vec::new())).collect();
    let (exec, write) = (libc::PROT_EXEC as u64, libc::PROT_WRITE as u64);
    let anonymous = libc::MAP_ANONYMOUS as u64;
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![rule(&[(0, has_not(thread), 0)])?]);
    rules.insert(libc::SYS_socket, vec![other_families()?]);
    let protect = vec![rule(&[(2, Is::MaskedEq(exec), exec)])?];
    rules.insert(libc::SYS_mprotect, protect.clone());
    rules.insert(libc::SYS_pkey_mprotect, protect);
    let both = write | exec;
    let mapped = vec![
        rule(&[(2, Is::MaskedEq(both), both)])?,
        rule(&[
            (2, Is::MaskedEq(exec), exec),
            (3, Is::MaskedEq(anonymous), anonymous),
        ])?,
    ];
    rules.insert(libc::SYS_mmap, mapped);
    Ok(rules)
}

fn has_not(bit: u64) -> Is {
    Is::MaskedEq(bit)
}

/// All but what calls, the agent and `sock_diag` go over.
fn other_families() -> Result<SeccompRule, SandboxError> {
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let none_of: Vec<_> = families
        .into_iter()
        .map(|family| (0, Is::Ne, family as u64))
        .collect();
    rule(&none_of)
}

/// Matches if all conditions hold: argument, comparison, value.
fn rule(conditions: &[(u8, Is, u64)]) -> Result<SeccompRule, SandboxError> {
    let conditions = conditions
        .iter()
        .map(|(argument, is, value)| Condition::new(*argument, Length::Dword, is.clone(), *value))
        .collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}
