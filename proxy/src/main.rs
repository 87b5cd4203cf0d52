//! `countersign-proxy`: reads its configuration, runs until a signal, drains.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use countersign_proxy::sandbox::{self, SandboxStatus};
use countersign_proxy::{Config, FeedSource, Proxy};
use proto::mesh::v1::PROTOCOL;
use runtime::exit::{self, Usage};
use runtime::{Clock, LogLevelHandle, telemetry};

/// Carries a connection only between identities that policy permits.
#[derive(Debug, Parser)]
#[command(name = "countersign-proxy", version = version())]
struct Arguments {
    /// The configuration file (TOML).
    #[arg(long, env = "COUNTERSIGN_PROXY_CONFIG")]
    config: PathBuf,
    /// Check the configuration and exit.
    #[arg(long)]
    check_config: bool,
    /// Take the sockets of the proxy that runs with this configuration, if one does. It drains
    /// when this one is ready, and goes on if that never happens.
    #[arg(long)]
    takeover: bool,
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
    let config = Config::load(&arguments.config)?;
    if arguments.check_config {
        return Ok(());
    }
    let log_level = telemetry::init(&config.log)?;
    // Each connection has its counterpart.
    runtime::open_files_for(2 * config.limits.connections as u64);
    // Before anything starts a thread: threads inherit it, and nothing takes it back.
    let sandbox = sandbox::apply(&config)?;
    tracing::info!(
        landlock = sandbox.landlock,
        seccomp = sandbox.seccomp,
        "sandbox"
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?
        .block_on(serve(config, arguments.takeover, log_level, sandbox))
}

async fn serve(
    config: Config,
    takeover: bool,
    log_level: LogLevelHandle,
    sandbox: SandboxStatus,
) -> anyhow::Result<()> {
    let Some(feed) = config.feed.clone() else {
        let text = "`feed` is missing: the agent's mesh-feed socket".to_owned();
        return Err(Usage(text).into());
    };
    let deadline = config.drain.deadline.duration();
    let workload = config.workload.clone();
    let source = FeedSource::Socket(feed);
    let (clock, log_level) = (Clock::system(), Some(log_level));
    let mut proxy = if takeover {
        Proxy::take_over(config, source, clock, log_level).await?
    } else {
        Proxy::start_with(config, source, clock, log_level).await?
    };
    proxy.note_sandbox(sandbox);
    let trigger = proxy.trigger();
    let asked = trigger.shutdown();
    let mut signals = pin!(trigger.on_signals().context("handle signals")?);
    tracing::info!(%workload, outbound = ?proxy.outbound_address(), "proxy started");
    tokio::select! {
        () = signals.as_mut() => {}
        () = asked.draining() => {}
        failed = proxy.failed() => return Err(failed.into()),
    }
    tokio::select! {
        drained = proxy.drain(deadline) => drained.map_err(Into::into),
        () = signals => Ok(()),
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
