//! `countersign redirect`: leads a network namespace's connections through the proxy.
//!
//! Invariant: it touches one nftables table (or two iptables chains and the jumps to them) of its
//! own, whole or not at all; everything else is left alone. The rules exempt the proxy's user, and
//! only a new connection is ever redirected.

mod iptables;
mod kernel;
mod namespace;
mod nft;
mod plan;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;

use ca_server::store::Cidr;
use clap::{Args, Subcommand, ValueEnum};
use runtime::exit;

use crate::output;
use kernel::{Backend, Installed};
use namespace::NamespaceName;
use plan::{Plan, PortChoice, UserChoice};

/// Lead connections of this network namespace through the proxy, without any proxy setting
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign redirect install --config proxy.toml --proxy-user countersign-proxy --port 8080
  countersign redirect install --config proxy.toml --proxy-user 1337 --port 8080 --dry-run
  countersign redirect status --netns 4711
  countersign redirect remove")]
pub(crate) struct Redirect {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install the rules, replacing those of an earlier installation
    Install(Install),
    /// Remove the rules, and nothing else
    Remove(Remove),
    /// Show the rules that are installed; exit code 1 if there are none
    Status(Status),
}

#[derive(Debug, Args)]
struct Install {
    /// The proxy's configuration: `[transparent]`, `[dns]` and `[mesh.ports]` say where to lead what
    #[arg(long)]
    config: PathBuf,
    /// Uid or name of the user that the proxy runs as; its connections are exempt
    #[arg(long)]
    proxy_user: UserChoice,
    /// Another user whose connections are exempt (repeatable)
    #[arg(long = "exempt-user")]
    exempt_users: Vec<UserChoice>,
    /// A port of the application, which others may reach through the mesh only (repeatable), or
    /// `all` for every port but the mesh listeners'
    #[arg(long = "port")]
    ports: Vec<PortChoice>,
    /// A destination port that is left alone (repeatable)
    #[arg(long = "exclude-port")]
    excluded_ports: Vec<u16>,
    /// Destination addresses that are left alone, such as 10.0.0.0/8 (repeatable)
    #[arg(long = "exclude-cidr")]
    excluded_cidrs: Vec<Cidr>,
    /// Print the rules, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Remove {
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The network namespace: a name of `ip netns`, or a process id; this one if left out
    #[arg(long)]
    netns: Option<NamespaceName>,
    /// What installs the rules
    #[arg(long, value_enum, default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendChoice {
    /// nftables, or iptables where the host has no nftables
    Auto,
    Nft,
    Iptables,
}

impl Redirect {
    pub(crate) fn run(self) -> ExitCode {
        let done = match self.action {
            Action::Install(install) => install.run(),
            Action::Remove(remove) => remove.run(),
            Action::Status(status) => status.run(),
        };
        done.unwrap_or_else(|error| exit::report(Err(error)))
    }
}

impl Install {
    fn run(self) -> anyhow::Result<ExitCode> {
        let config = proxy::Config::load(&self.config)?;
        let plan = Plan::of(&config, &self.wishes()?)?;
        let choice = self.place.backend.only();
        if self.dry_run {
            let text = kernel::preview(&plan, choice);
            return output::print_text(&text).map(|()| ExitCode::SUCCESS);
        }
        self.place.enter(move || {
            let backend = kernel::install(&plan, choice)?;
            record::write(&plan, backend)?;
            for warning in namespace::unroutable() {
                output::remark(&warning);
            }
            output::remark(&format!("redirect installed ({})", backend.as_str()));
            Ok(ExitCode::SUCCESS)
        })
    }

    fn wishes(&self) -> anyhow::Result<plan::Wishes> {
        let others = self.exempt_users.iter().map(UserChoice::uid);
        Ok(plan::Wishes {
            proxy_uid: self.proxy_user.uid()?,
            exempt_uids: others.collect::<Result<_, _>>()?,
            ports: self.ports.clone(),
            excluded_ports: self.excluded_ports.iter().copied().collect(),
            excluded_cidrs: self.excluded_cidrs.clone(),
        })
    }
}

impl Remove {
    fn run(self) -> anyhow::Result<ExitCode> {
        let choice = self.place.backend.only();
        if self.dry_run {
            output::print_text(&kernel::preview_removal(choice))?;
            return Ok(ExitCode::SUCCESS);
        }
        self.place.enter(move || {
            kernel::remove(choice.or_else(record::backend))?;
            record::remove()?;
            output::remark("redirect removed");
            Ok(ExitCode::SUCCESS)
        })
    }
}

impl Status {
    fn run(self) -> anyhow::Result<ExitCode> {
        let choice = self.place.backend.only();
        self.place.enter(
            move || match kernel::installed(choice.or_else(record::backend))? {
                Some(Installed { backend, rules }) => {
                    let text = format!("redirect: installed ({})\n{rules}", backend.as_str());
                    output::print_text(&text)?;
                    Ok(ExitCode::SUCCESS)
                }
                None => {
                    output::print_text("redirect: not installed\n")?;
                    Ok(ExitCode::FAILURE)
                }
            },
        )
    }
}

impl Place {
    fn enter<T: Send + 'static>(
        self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        namespace::inside(self.netns, || {
            namespace::require_net_admin()?;
            work()
        })
    }
}

impl BackendChoice {
    fn only(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Nft => Some(Backend::Nft),
            Self::Iptables => Some(Backend::Iptables),
        }
    }
}
