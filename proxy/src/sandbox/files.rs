//! Landlock: which files can be opened.
//!
//! Ports are not restricted: where mesh listeners and gateways bind, and which endpoints there
//! are, is learned while the proxy runs.

use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::SandboxError;
use crate::config::Config;
use crate::transparent::RedirectRecord;

/// Newer rights are left alone until it is known that nothing of ours needs them.
const KNOWN: ABI = ABI::V6;

/// What the C library, the TLS roots and the look at who gets around us need, where it exists.
const SYSTEM: [&str; 19] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/dev/urandom",
    "/proc/self",
    RedirectRecord::DIRECTORY,
];
const RESOLVERS: &str = "/etc/resolv.conf";

/// Returns the version that is enforced; none where the kernel has no Landlock.
pub(super) fn restrict(config: &Config) -> Result<Option<i32>, SandboxError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in SYSTEM.iter().map(PathBuf::from).chain(resolvers()) {
        // Not every system has each of them.
        if let Ok(opened) = PathFd::new(&path) {
            rules = allow(rules, &path, opened, read)?;
        }
    }
    let gateway = config.gateway.iter().map(|it| &it.certificates);
    let edges = gateway.chain(&config.external.roots);
    let collector = config.tracing.iter().filter_map(|it| it.roots.as_ref());
    let granted = config.sandbox.read.iter().chain(edges).chain(collector);
    for path in granted {
        rules = allow(rules, path, open(path)?, read)?;
    }
    for folder in socket_folders(config) {
        let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
        rules = allow(rules, &folder, open(&folder)?, sockets)?;
    }
    let status = rules.restrict_self()?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. }
            if status.ruleset != RulesetStatus::NotEnforced =>
        {
            Some(effective_abi as i32)
        }
        _ => None,
    })
}

fn open(path: &Path) -> Result<PathFd, SandboxError> {
    PathFd::new(path).map_err(|source| SandboxError::Path {
        path: path.display().to_string(),
        source,
    })
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    opened: PathFd,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let is_folder = fs::metadata(path).is_ok_and(|it| it.is_dir());
    let access = if is_folder {
        access
    } else {
        access & AccessFs::from_file(KNOWN)
    };
    Ok(rules.add_rule(PathBeneath::new(opened, access))?)
}

/// The file, and the folder that a link leads to: whoever manages it replaces the file there.
fn resolvers() -> Vec<PathBuf> {
    let file = PathBuf::from(RESOLVERS);
    let target = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
    let folder = target.parent().filter(|it| *it != Path::new("/etc"));
    let folder = folder.map(Path::to_owned);
    folder.into_iter().chain([file]).collect()
}

/// Where the configuration puts Unix sockets: they are made after this, and removed at the end.
fn socket_folders(config: &Config) -> Vec<PathBuf> {
    let outbound = config.outbound.as_ref();
    let sockets = [
        config.listen.admin_socket.clone(),
        config.takeover_socket(),
        outbound.and_then(|it| it.unix_socket.clone()),
    ];
    let folders = sockets.iter().flatten().map(|path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    });
    folders.collect()
}
