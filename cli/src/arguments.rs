//! The command line as a whole; each command's own arguments are in its module.

use clap::{Parser, Subcommand};

use crate::agent::Agent;
use crate::apply::Apply;
use crate::authority::Authority;
use crate::completions::Completions;
use crate::delete::Delete;
use crate::demo::DemoProgram;
use crate::downstream::Downstream;
use crate::explain::Explain;
use crate::get::Get;
use crate::join_token::JoinToken;
use crate::log::Log;
use crate::program::ExecWhenRegistered;
use crate::redirect::Redirect;
use crate::revocation::{Revocation, Revoke};
use crate::run::Run;
use crate::status::Status;
use crate::store::Store;
use crate::tap::Tap;
use crate::top::Top;
use crate::up::Up;

/// Identities and mutual TLS for every workload.
///
/// Countersign gives each workload a short-lived, provable identity, and lets two workloads talk
/// only when policy says so.
#[derive(Debug, Parser)]
#[command(name = "countersign", version = version(), arg_required_else_help = true, after_help = FIRST_STEPS)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Up),
    Run(Run),
    Apply(Apply),
    Get(Get),
    Delete(Delete),
    Explain(Explain),
    Agent(Agent),
    Authority(Authority),
    Downstream(Downstream),
    JoinToken(JoinToken),
    Log(Log),
    Redirect(Redirect),
    Revocation(Revocation),
    Revoke(Revoke),
    Status(Status),
    Store(Store),
    Tap(Tap),
    Top(Top),
    Completions(Completions),
    #[command(hide = true)]
    DemoProgram(DemoProgram),
    #[command(hide = true)]
    ExecWhenRegistered(ExecWhenRegistered),
}

const FIRST_STEPS: &str = "\
First steps:
  countersign up --demo                        see a mesh at work
  countersign up                               start a mesh of your own in this terminal
  countersign run --as shop/orders --port http=8080 -- ./orders
  countersign apply -f policy.yaml             say who may call whom";

fn version() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), crypto::BACKEND)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn version_names_the_backend() {
        assert!(version().ends_with(&format!("({})", crypto::BACKEND)));
    }
}
