//! `countersign-agent`: configuration, start, run, drain.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use proto::mesh::v1::PROTOCOL;
use runtime::exit::{self, Usage};
use runtime::{Clock, LogLevelHandle, Shutdown, telemetry};
use workload_agent::{Agent, Config};

const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// Proves where it runs, and keeps local workloads and proxies holding live credentials.
#[derive(Debug, Parser)]
#[command(name = "countersign-agent", version = version())]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Judge the configuration, and stop.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => exit::report(run(&arguments)),
        Err(error) if error.use_stderr() => exit::misuse(&error.render().to_string()),
        // Help and version are no errors; where nobody reads them, nothing is lost.
        Err(help) => {
            drop(help.print());
            ExitCode::SUCCESS
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config: Config = runtime::config::load(&arguments.config)?;
    config
        .validate()
        .map_err(|error| Usage(error.to_string()))?;
    if arguments.check_config {
        return Ok(());
    }
    let log_level = telemetry::init(&config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(serve(config, log_level))
}

async fn serve(config: Config, log_level: LogLevelHandle) -> anyhow::Result<()> {
    let (trigger, stop) = Shutdown::pair();
    let mut signals = pin!(trigger.on_signals().context("cannot watch for signals")?);
    let mut agent = Agent::start_with_log(config, Clock::system(), Some(log_level)).await?;
    let asked = agent.shutdown();
    tracing::info!(socket = %agent.workload_api_socket().display(), "serving");
    tokio::select! {
        () = &mut signals => {}
        () = stop.draining() => {}
        () = asked.draining() => {}
        failed = agent.failed() => return Err(failed.into()),
    }
    tokio::select! {
        drained = agent.drain(DRAIN_WITHIN) => Ok(drained?),
        // The second signal: everything ends with the process.
        () = &mut signals => Ok(()),
    }
}

fn version() -> String {
    format!(
        "{} ({}; protocol {}.{})",
        env!("CARGO_PKG_VERSION"),
        crypto::BACKEND,
        PROTOCOL.major,
        PROTOCOL.minor
    )
}
