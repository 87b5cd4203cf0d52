//! Hands scripts to `nft` or `iptables-restore`, on their standard input and through no shell.
//!
//! Invariant: a script is tried before it is applied. When the second family of iptables fails,
//! the first is taken back.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::iptables::{self, Family, Present};
use super::nft;
use super::plan::Plan;

/// Searched in this order, and nowhere else.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// What holds the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Nft,
    Iptables,
}

/// Rules that are in force.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) backend: Backend,
    /// As the kernel's tool prints them.
    pub(super) rules: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum KernelError {
    #[error(
        "this host has neither nft nor iptables-restore; install the package nftables (or iptables)"
    )]
    NoTool,
    #[error("this host has no {0}; install the package {package}", package = package(.0))]
    Missing(&'static str),
    #[error("cannot run {tool}")]
    Run {
        tool: &'static str,
        source: io::Error,
    },
    #[error("{tool} refused: {says}")]
    Refused { tool: &'static str, says: String },
    #[error("this kernel redirects neither by nftables ({nft}) nor by iptables ({iptables})")]
    NoNat { nft: String, iptables: String },
}

impl Backend {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// Without a choice: nftables where it is there.
    fn or_present(choice: Option<Self>) -> Result<Self, KernelError> {
        match choice {
            Some(choice) => Ok(choice),
            None if find("nft").is_some() => Ok(Self::Nft),
            None if find(Family::Ipv4.restore()).is_some() => Ok(Self::Iptables),
            None => Err(KernelError::NoTool),
        }
    }
}

/// Installs the plan; what was installed by the other backend must be removed by that.
pub(super) fn install(plan: &Plan, choice: Option<Backend>) -> Result<Backend, KernelError> {
    let backend = Backend::or_present(choice)?;
    if backend == Backend::Iptables {
        return install_iptables(plan).map(|()| Backend::Iptables);
    }
    match install_nft(plan) {
        Err(KernelError::Refused { says: nft, .. })
            if choice.is_none() && find(Family::Ipv4.restore()).is_some() =>
        {
            install_iptables(plan)
                .map(|()| Backend::Iptables)
                .map_err(|error| KernelError::NoNat {
                    nft,
                    iptables: error.to_string(),
                })
        }
        done => done.map(|()| Backend::Nft),
    }
}

/// Removes what is there; nothing is no error.
pub(super) fn remove(choice: Option<Backend>) -> Result<(), KernelError> {
    match Backend::or_present(choice)? {
        Backend::Nft => run("nft", &["-f", "-"], &nft::remove()).map(drop),
        Backend::Iptables => {
            for family in Family::BOTH {
                let present = present(family)?;
                if !present.is_empty() {
                    run(
                        family.restore(),
                        &["--noflush"],
                        &iptables::remove(&present),
                    )?;
                }
            }
            Ok(())
        }
    }
}

/// The rules in force, if any are.
pub(super) fn installed(choice: Option<Backend>) -> Result<Option<Installed>, KernelError> {
    let backend = Backend::or_present(choice)?;
    let rules = match backend {
        Backend::Nft => {
            let tables = run("nft", &["list", "tables", "inet"], "")?;
            let ours = format!("table inet {}", nft::TABLE);
            match tables.lines().any(|line| line.trim() == ours) {
                true => Some(run("nft", &["list", "table", "inet", nft::TABLE], "")?),
                false => None,
            }
        }
        Backend::Iptables => {
            let mut all = String::new();
            for family in Family::BOTH {
                let saved = run(family.save(), &["-t", "nat"], "")?;
                if !Present::of(&saved).is_empty() {
                    all += &saved;
                }
            }
            (!all.is_empty()).then_some(all)
        }
    };
    Ok(rules.map(|rules| Installed { backend, rules }))
}

/// What an installation would hand to the kernel on a host without rules of ours.
pub(super) fn preview(plan: &Plan, choice: Option<Backend>) -> String {
    match Backend::or_present(choice) {
        Ok(Backend::Iptables) => {
            let script = |family| iptables::install(plan, family, &Present::default());
            both_families(script)
        }
        _ => format!("# nft -f -\n{}", nft::install(plan)),
    }
}

pub(super) fn preview_removal(choice: Option<Backend>) -> String {
    match Backend::or_present(choice) {
        Ok(Backend::Iptables) => {
            "# the chains COUNTERSIGN_OUT and COUNTERSIGN_IN of both nat tables, and the jumps to \
             them, are removed\n"
                .to_owned()
        }
        _ => format!("# nft -f -\n{}", nft::remove()),
    }
}

fn both_families(script: impl Fn(Family) -> String) -> String {
    let one = |family: Family| format!("# {} --noflush\n{}", family.restore(), script(family));
    Family::BOTH.map(one).concat()
}

fn install_nft(plan: &Plan) -> Result<(), KernelError> {
    run("nft", &["-f", "-"], &nft::install(plan)).map(drop)
}

fn install_iptables(plan: &Plan) -> Result<(), KernelError> {
    let mut scripts = Vec::new();
    for family in Family::BOTH {
        let script = iptables::install(plan, family, &present(family)?);
        run(family.restore(), &["--noflush", "--test"], &script)?;
        scripts.push((family, script));
    }
    for (family, script) in scripts {
        if let Err(error) = run(family.restore(), &["--noflush"], &script) {
            // The first failure is the one to tell.
            drop(remove(Some(Backend::Iptables)));
            return Err(error);
        }
    }
    Ok(())
}

fn present(family: Family) -> Result<Present, KernelError> {
    let saved = run(family.save(), &["-t", "nat"], "")?;
    Ok(Present::of(&saved))
}

fn find(tool: &str) -> Option<PathBuf> {
    let mut paths = DIRECTORIES.iter().map(|it| PathBuf::from(it).join(tool));
    paths.find(|path| path.is_file())
}

/// Runs a tool without our environment. Its standard error is what it says when it fails.
fn run(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, KernelError> {
    let path = find(tool).ok_or(KernelError::Missing(tool))?;
    let failed = |source| KernelError::Run { tool, source };
    let mut child = Command::new(path)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // A script is far smaller than a pipe, so that writing it first cannot get stuck.
    let written = child
        .stdin
        .take()
        .map(|mut it| it.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        let says = says.lines().next().unwrap_or("without a word").trim();
        let says = says.to_owned();
        return Err(KernelError::Refused { tool, says });
    }
    written.transpose().map_err(failed)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn package(tool: &str) -> &'static str {
    match tool {
        "nft" => "nftables",
        _ => "iptables",
    }
}
