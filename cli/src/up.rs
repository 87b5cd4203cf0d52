//! `countersign up`: a CA in this terminal, and with `--demo` a mesh at work.
//!
//! Invariant: Ctrl-C drains; what the demonstration wrote into the mesh is gone when it ends.

mod demo;
mod place;
mod tally;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ca_server::Ca;
use clap::Args;
use identity::TrustDomain;
use runtime::exit::Usage;
use runtime::{Clock, LogFilter, Shutdown, ShutdownTrigger, Span, TelemetryOptions};
use tokio::task::JoinSet;

use crate::admin::{AdminFile, Client, HomeArguments};
use crate::output;
use demo::Demo;
use place::Place;

const DRAIN: Duration = Duration::from_secs(10);

/// Start a mesh in this terminal, for development
#[derive(Debug, Args)]
#[command(after_help = "\
The CA listens on loopback only, on ports that it keeps from one start to the next.

Examples:
  countersign up                      a mesh of your own; Ctrl-C ends it
  countersign up --demo               three programs in it, and what happens between them
  countersign up --demo --for 20s --json
  countersign up --state ./mesh       then use --admin ./mesh/admin.toml")]
pub(crate) struct Up {
    /// Run three programs: one serves, one may call it, one may not
    #[arg(long)]
    demo: bool,
    /// End after this time
    #[arg(long = "for", value_name = "TIME")]
    length: Option<Span>,
    /// Print the demonstration's outcome as one line of JSON
    #[arg(long, requires = "demo")]
    json: bool,
    /// Where the mesh keeps its files [default: countersign in $XDG_STATE_HOME or ~/.local/state]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The trust domain; fixed once the state exists
    #[arg(long, value_name = "NAME", default_value = "countersign.local")]
    trust_domain: TrustDomain,
    /// What is logged on standard error [default: warn]
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "warn,countersign_proxy::app::housekeeping=error",
        hide_default_value = true
    )]
    log_level: LogFilter,
    #[command(flatten)]
    home: HomeArguments,
}

impl Up {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        runtime::telemetry::init(&TelemetryOptions {
            level: self.log_level.clone(),
            ..TelemetryOptions::default()
        })?;
        let (trigger, shutdown) = Shutdown::pair();
        let _signals = watch_signals(&trigger)?;
        let clock = Clock::system();
        let place = Place::prepare(&self.directory()?)?;
        let mut ca = place.start_ca(&self.trust_domain, &clock).await?;
        let client = ca_client(&ca, &clock)?;
        let next_steps = self.next_steps(ca.admin_file());
        self.announce(&ca, &next_steps);
        let stay = async {
            if self.demo {
                let demo = Demo::start(client, place.demo(), clock.clone(), &shutdown).await?;
                let Some(demo) = demo else {
                    return Ok(ExitCode::SUCCESS);
                };
                let length = self.length.map(Span::duration);
                return demo.run(length, self.json, &next_steps, &shutdown).await;
            }
            self.wait(&clock, &shutdown).await;
            Ok(ExitCode::SUCCESS)
        };
        let outcome = tokio::select! {
            outcome = stay => outcome,
            failed = ca.failed() => Err(failed.into()),
        };
        tokio::select! {
            drained = ca.drain(DRAIN) => drained?,
            () = shutdown.forced() => anyhow::bail!("ended before the CA was drained"),
        }
        outcome
    }

    /// Until the time is over or a signal comes.
    async fn wait(&self, clock: &Clock, shutdown: &Shutdown) {
        let over = async {
            match self.length {
                Some(length) => clock.sleep(length.duration()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            () = shutdown.draining() => {}
        }
    }

    fn directory(&self) -> Result<PathBuf, Usage> {
        self.state
            .clone()
            .or_else(|| self.home.state_directory())
            .ok_or_else(|| Usage("set HOME or XDG_STATE_HOME, or say --state DIR".to_owned()))
    }

    /// Commands to try, one a line.
    fn next_steps(&self, admin_file: &Path) -> String {
        let admin = match &self.state {
            Some(_) => format!(" --admin {}", admin_file.display()),
            None => String::new(),
        };
        let steps: &[(&str, &str)] = if self.demo {
            &[
                (
                    "explain",
                    "--from shop/intruder --to shop/orders:http --method GET --path /",
                ),
                ("get", "svids shop/orders"),
            ]
        } else {
            &[
                (
                    "run",
                    "--as shop/orders --port http=8080 -- python3 -m http.server 8080 --bind 127.0.0.1",
                ),
                ("apply", "-f policy.yaml"),
                (
                    "run",
                    "--as shop/checkout -- curl -s http://orders.shop.mesh.internal/",
                ),
            ]
        };
        let line =
            |(command, rest): &(&str, &str)| format!("  countersign {command}{admin} {rest}\n");
        steps.iter().map(line).collect()
    }

    fn announce(&self, ca: &Ca, next_steps: &str) {
        output::remark(&format!(
            "{} is up: REST https://{}, agents {}\ncredential: {}\nin other terminals:\n{next_steps}Ctrl-C ends it",
            self.trust_domain,
            ca.web_address(),
            ca.agents_address(),
            ca.admin_file().display(),
        ));
    }
}

fn watch_signals(trigger: &ShutdownTrigger) -> io::Result<JoinSet<()>> {
    let mut signals = JoinSet::new();
    signals.spawn(trigger.on_signals()?);
    Ok(signals)
}

fn ca_client(ca: &Ca, clock: &Clock) -> anyhow::Result<Client> {
    let file = AdminFile::load(ca.admin_file(), clock.now())
        .context("the CA that was just started has no usable credential")?;
    Ok(Client::new(file, clock.clone()))
}
