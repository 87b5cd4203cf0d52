//! `countersign run`: one program in the mesh, with its agent and proxy in this process.
//!
//! Invariant: the program starts only once its identity is live, and whatever it left running ends
//! with it.

mod orphans;
mod place;
mod registration;
mod relay;
mod token;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use identity::QualifiedName;
use proxy::{BypassablePort, Reachable};
use runtime::exit::Usage;
use runtime::{Clock, LockFile, LogFilter, TelemetryOptions};
use rustix::process::Signal;
use zeroize::Zeroizing;

use crate::admin::AdminArguments;
use crate::output;
use crate::port_spec::{PortSpec, ReachSpec};
use crate::program::{Launch, Program};
use crate::sidecar::{Plan, Sidecar};
use place::Place;
use registration::Registration;
use relay::Signals;
use token::TokenArguments;

const READY_WITHIN: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

/// Run a program with an identity of its own, reachable and reaching only as policy says
#[derive(Debug, Args)]
#[command(after_help = "\
The program finds the mesh in its environment: http_proxy for HTTP services by name, such as
http://orders.shop.mesh.internal/, and SPIFFE_ENDPOINT_SOCKET for its own certificates.
Without --token, run uses the administrator's credential: it creates what is missing of the
Workload and the Service, and removes at the end what it created; what a run created that was
killed, the next one for that workload removes. That is for development.

Examples:
  countersign run --as shop/orders --port http=8080 -- python3 -m http.server 8080 --bind 127.0.0.1
  countersign run --as shop/checkout -- curl -s http://orders.shop.mesh.internal/
  countersign run --as shop/web --reach data/db:pg=5432 -- ./web
  countersign run --as shop/orders --port http=8080 --token orders.token -- ./orders")]
pub(crate) struct Run {
    /// Whose identity the program has: namespace/name
    #[arg(long = "as", value_name = "WORKLOAD")]
    workload: QualifiedName,
    /// A port the program serves on loopback: `name=app[:port][/protocol]`; may be repeated
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<PortSpec>,
    /// A TCP service to open a local port for: ns/service:port=local; may be repeated
    #[arg(long, value_name = "SERVICE")]
    reach: Vec<ReachSpec>,
    #[command(flatten)]
    token: TokenArguments,
    /// What of the agent and proxy is logged on standard error [default: warn]
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "warn,countersign_proxy::app::housekeeping=error",
        hide_default_value = true
    )]
    log_level: LogFilter,
    #[command(flatten)]
    admin: AdminArguments,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

impl Run {
    /// The program's exit code; 128 + n if a signal ended it.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        runtime::telemetry::init(&TelemetryOptions {
            level: self.log_level.clone(),
            ..TelemetryOptions::default()
        })?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = Signals::listen()?;
        match self.token.read()? {
            Some(token) => self.with_token(token, signals).await,
            None => self.in_development(signals).await,
        }
    }

    async fn with_token(
        &self,
        token: Zeroizing<String>,
        signals: Signals,
    ) -> anyhow::Result<ExitCode> {
        let name = format!("{}-{}", self.workload.namespace, self.workload.name);
        let directory = self.state()?.join(name);
        runtime::files::private_directory(&directory)?;
        let _lock = LockFile::acquire(directory.join("lock"))
            .with_context(|| format!("{} runs already with this state", self.workload))?;
        let plan = self.plan(directory, Some(token));
        self.carry(&plan, signals).await
    }

    async fn in_development(&self, signals: Signals) -> anyhow::Result<ExitCode> {
        let client = self.admin.client()?;
        let state = self.state()?;
        runtime::files::private_directory(&state)?;
        self.withdraw_abandoned(&state).await?;
        let agent = Registration::agent_name(&self.workload);
        let place = Place::open(&state, &agent)?;
        let created = (agent.as_str(), &place);
        let registration = Registration::create(client, &self.workload, &self.ports, created).await;
        let registration = match registration {
            Ok(registration) => registration,
            Err(error) => {
                place.remove();
                return Err(error);
            }
        };
        let plan = self.plan(place.directory().to_owned(), Some(registration.token()));
        let outcome = self.carry(&plan, signals).await;
        registration.withdraw().await;
        place.remove();
        outcome
    }

    /// Ends what runs of this workload on this host could not end themselves, for they were killed.
    async fn withdraw_abandoned(&self, state: &Path) -> anyhow::Result<()> {
        for (place, record) in Place::abandoned(state, &self.workload) {
            output::remark(&format!(
                "development: {} was killed; removing what it had created",
                record.agent
            ));
            let left = Registration::of(self.admin.client()?, record)?;
            left.withdraw().await;
            place.remove();
        }
        Ok(())
    }

    fn state(&self) -> Result<PathBuf, Usage> {
        let state = self.admin.state_directory();
        state.map(|state| state.join("run")).ok_or_else(|| {
            Usage(
                "set HOME or XDG_STATE_HOME, so that there is a place for the agent's state"
                    .to_owned(),
            )
        })
    }

    fn plan(&self, directory: PathBuf, token: Option<Zeroizing<String>>) -> Plan {
        Plan {
            workload: self.workload.clone(),
            directory,
            token,
            ports: self.ports.clone(),
            reach: self.reach.clone(),
        }
    }

    /// From credentials to the end of the program and of everything around it.
    async fn carry(&self, plan: &Plan, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let mut sidecar = Sidecar::start(plan, &Clock::system()).await?;
        let started = tokio::select! {
            started = self.start(&mut sidecar, plan) => started,
            () = signals.any() => Err(anyhow::anyhow!("interrupted before the program was started")),
        };
        let ended = match started {
            Ok(program) => supervise(program, &mut sidecar, &mut signals).await,
            Err(error) => Err(error),
        };
        orphans::end_all(GRACE).await;
        let drained = sidecar.drain().await;
        let code = ended?;
        drained?;
        Ok(code)
    }

    async fn start(&self, sidecar: &mut Sidecar, plan: &Plan) -> anyhow::Result<Program> {
        sidecar.ready(READY_WITHIN).await?;
        self.warn_of_bypass();
        let launch = Launch {
            command: &self.program,
            environment: sidecar.environment(),
            directory: &plan.directory,
            stdout: Stdio::inherit(),
        };
        Ok(Program::start(launch, |pid| sidecar.spawned(pid)).await?)
    }

    /// Before the program serves, for it is so wherever the network namespace is shared.
    fn warn_of_bypass(&self) {
        for port in &self.ports {
            output::remark(&format!(
                "warning: BYPASSABLE (local users): any program of this host reaches {} at 127.0.0.1:{} past policy; a network namespace of its own prevents that",
                port.name, port.app,
            ));
        }
    }
}

/// Passes signals on, reaps what the program leaves, and waits for its end; ends it if the
/// sidecar fails, for it must not run on outside the mesh.
async fn supervise(
    mut program: Program,
    sidecar: &mut Sidecar,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let mut proxy = sidecar.proxy_status();
    let mut warned = BTreeSet::new();
    loop {
        tokio::select! {
            Ok(()) = proxy.changed() => {
                warn_of_exposed(&proxy.borrow_and_update().bypassable, &mut warned);
            }
            status = program.wait() => return Ok(exit_code(status?)),
            signal = signals.next() => match signal {
                Signal::CHILD => orphans::reap(program.pid()),
                signal => program.signal(signal),
            },
            failed = sidecar.failed() => {
                end(&mut program).await?;
                return Err(anyhow::Error::new(failed).context("the program was ended with its sidecar"));
            }
        }
    }
}

/// A port that other hosts reach is worse than what was said before the start.
fn warn_of_exposed(bypassable: &[BypassablePort], warned: &mut BTreeSet<u16>) {
    for port in bypassable
        .iter()
        .filter(|port| port.reach == Reachable::Network)
    {
        if warned.insert(port.application_port) {
            output::remark(&format!(
                "warning: BYPASSABLE: other hosts reach {} at port {} past policy; bind it to 127.0.0.1",
                port.target, port.application_port,
            ));
        }
    }
}

async fn end(program: &mut Program) -> io::Result<()> {
    program.signal(Signal::TERM);
    if tokio::time::timeout(GRACE, program.wait()).await.is_err() {
        program.signal(Signal::KILL);
        program.wait().await?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn signal_ends_with_128_and_its_number() {
        assert_eq!(exit_code(ExitStatus::from_raw(15)), ExitCode::from(143));
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), ExitCode::from(7));
    }
}
