//! What a process can do to itself that it cannot undo: limits, Landlock, and the filter for system calls.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::super::order::{Bounds, Paths};

/// Agents wait for models most of the time; when they do not, the house goes first.
const NICENESS: i32 = 19;

/// The oldest Landlock that holds everything we rely on: it must know truncating, and moving between folders.
const OLDEST: ABI = ABI::V3;
const NEWEST: ABI = ABI::V5;

pub(super) fn limit(bounds: &Bounds) -> Result<()> {
    let limits = [
        (Resource::Nproc, bounds.processes),
        (Resource::Nofile, bounds.files),
        (Resource::Fsize, bounds.file_bytes),
        (Resource::Data, bounds.data_bytes),
        (Resource::Core, 0),
        (Resource::Memlock, 8 << 20),
        (Resource::Msgqueue, 64 << 10),
    ];
    for (resource, most) in limits {
        let old = rustix::process::getrlimit(resource);
        let most = old.maximum.map_or(most, |old| old.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    rustix::process::nice(NICENESS)?;
    Ok(())
}

/// Locks the calling thread and everything that it will start.
pub(super) fn lock(paths: &Paths) -> Result<()> {
    landlock(paths).context("Landlock")?;
    for filter in filters()? {
        seccompiler::apply_filter(&filter).context("the filter for system calls")?;
    }
    Ok(())
}

fn landlock(paths: &Paths) -> Result<()> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute;
    // Terminals, and what is written into nothing; nobody makes anything in there.
    let devices =
        AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(OLDEST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        // Who can signal or reach nobody outside by name cannot even try the shim.
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules(&paths.read, read))?
        .add_rules(path_beneath_rules(&paths.write, AccessFs::from_all(NEWEST)))?
        .add_rules(path_beneath_rules([Path::new("/dev")], devices))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        bail!("this kernel has none");
    }
    Ok(())
}

/// Two of them, because a filter has one answer: most is forbidden, and some seems not to be there, so that whoever asks
/// takes the older way.
fn filters() -> Result<[BpfProgram; 2]> {
    Ok([filter(forbidden()?, libc::EPERM)?, filter(absent()?, libc::ENOSYS)?])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filter(mut rules: Rules, error: i32) -> Result<BpfProgram> {
    if cfg!(target_arch = "x86_64") {
        // The same calls have a second set of numbers, which is switched off nearly everywhere.
        const X32: i64 = 0x4000_0000;
        let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
        rules.extend(twins);
    }
    let error = u32::try_from(error)?;
    let arch = std::env::consts::ARCH.try_into().map_err(|error| anyhow!("this machine: {error:?}"))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(error), arch)?;
    Ok(filter.try_into()?)
}

fn forbidden() -> Result<Rules> {
    use SeccompCmpOp::{Eq, Gt, MaskedEq, Ne};
    // Whole families of calls, for mounts, modules, other people's keys and the kernel's own workings. No program of
    // ours needs them, and walls have been broken with most of them.
    let mut rules: Rules = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_syslog,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_lookup_dcookie,
        libc::SYS_vhangup,
        libc::SYS_nfsservctl,
        libc::SYS_fanotify_init,
        libc::SYS_pidfd_getfd,
        libc::SYS_kcmp,
    ]
    .map(|call| (call, Vec::new()))
    .into();
    #[cfg(target_arch = "x86_64")]
    rules.extend(
        [libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib].map(|call| (call, Vec::new())),
    );

    // New namespaces: a user namespace would give the rights of a root over its own little world.
    let namespaces = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000_u64];
    let any = |extra: &[u64]| {
        let flags = namespaces.iter().chain(extra);
        flags.map(|flag| rule(&[(0, MaskedEq(*flag), *flag)])).collect::<Result<Vec<_>>>()
    };
    rules.insert(libc::SYS_clone, any(&[])?);
    rules.insert(libc::SYS_unshare, any(&[0x80])?);

    // Sockets that no namespace holds, as those between a virtual machine and its host, and those whose code few use.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let others: Vec<_> = families.iter().map(|family| (0, Ne, u64::from(family.unsigned_abs()))).collect();
    let netlink = [(0, Eq, u64::from(libc::AF_NETLINK.unsigned_abs())), (2, Ne, 0)];
    let sockets = vec![rule(&others)?, rule(&netlink)?];
    rules.insert(libc::SYS_socketpair, sockets.clone());
    rules.insert(libc::SYS_socket, sockets);

    // To type on somebody's terminal.
    rules.insert(libc::SYS_ioctl, vec![rule(&[(1, Eq, 0x5412)])?, rule(&[(1, Eq, 0x541C)])?]);
    // Shared memory outlives its process and is nobody's then; a little is left for databases, which mark with it that
    // they run.
    let size = SeccompCondition::new(1, SeccompCmpArgLen::Qword, Gt, 64 << 10)?;
    rules.insert(libc::SYS_shmget, vec![SeccompRule::new(vec![size])?]);
    Ok(rules)
}

fn absent() -> Result<Rules> {
    // `clone3` hides its flags from filters, and everybody knows `clone`. Files in memory without a name would be counted
    // nowhere. Rings of system calls pass by the filter.
    let calls = [
        libc::SYS_clone3,
        libc::SYS_memfd_create,
        libc::SYS_memfd_secret,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
    ];
    Ok(calls.map(|call| (call, Vec::new())).into())
}

/// A rule that holds if all of its conditions do: the argument's place, how to compare, with what.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule> {
    let conditions = conditions
        .iter()
        .map(|(at, compare, value)| SeccompCondition::new(*at, SeccompCmpArgLen::Dword, compare.clone(), *value));
    Ok(SeccompRule::new(conditions.collect::<Result<Vec<_>, _>>()?)?)
}
