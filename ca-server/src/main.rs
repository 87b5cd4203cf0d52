//! `countersign-ca`: one replica of the certificate authority.

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ca_server::config::KekPlace;
use ca_server::{Ca, Config, install_upstream, request_upstream, reset_admin, rotate_seal};
use clap::{Parser, Subcommand};
use proto::mesh::v1::PROTOCOL;
use runtime::{Clock, exit, telemetry};

const DRAIN: Duration = Duration::from_secs(20);

/// The certificate authority of a mesh.
#[derive(Debug, Parser)]
#[command(name = "countersign-ca", version = version())]
struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        default_value = "/etc/countersign/ca.toml"
    )]
    config: PathBuf,
    /// Read and check the configuration, and do nothing else.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The administrator's credential.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// The key-encryption key.
    #[command(subcommand)]
    Seal(SealCommand),
    /// The offline root above the mesh, of `[upstream.csr]`.
    #[command(subcommand)]
    Upstream(UpstreamCommand),
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Revokes every credential and writes a new one. The CA must not be running.
    Reset,
}

#[derive(Debug, Subcommand)]
enum SealCommand {
    /// Seals the store by another key-encryption key. With SQLite the CA must not be running.
    Rotate {
        /// Where the new key is: a file, or `pkcs11:LABEL` in the token of `[keys.pkcs11]`, which are
        /// made if they do not exist; `credential:NAME` of systemd, or `env:VARIABLE`. Name it in
        /// `[keys]` next.
        #[arg(long, value_name = "PLACE")]
        to: KekPlace,
    },
}

#[derive(Debug, Subcommand)]
enum UpstreamCommand {
    /// Prints a certificate request for the mesh's authority: a CA with pathLen 1, for the URI
    /// `spiffe://TRUST-DOMAIN`. With SQLite the CA must not be running.
    Csr,
    /// Takes the certificate that the root made of the request. With SQLite the CA must not be
    /// running.
    Install {
        /// PEM: the certificate, what stands between it and the root, the root last.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
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

/// The cryptographic backend differs between builds, and with it what they can do.
fn version() -> String {
    format!(
        "{} ({}; protocol {}.{})",
        env!("CARGO_PKG_VERSION"),
        crypto::BACKEND,
        PROTOCOL.major,
        PROTOCOL.minor
    )
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    if arguments.check_config {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    match arguments.command {
        Some(Command::Admin(AdminCommand::Reset)) => {
            Ok(runtime.block_on(reset_admin(&config, &Clock::system()))?)
        }
        Some(Command::Seal(SealCommand::Rotate { ref to })) => {
            runtime.block_on(rotate_seal(&config, to, &Clock::system()))?;
            Ok(())
        }
        Some(Command::Upstream(UpstreamCommand::Csr)) => {
            let request = runtime.block_on(request_upstream(&config, &Clock::system()))?;
            let mut output = std::io::stdout().lock();
            output
                .write_all(request.as_bytes())
                .context("cannot print the request")
        }
        Some(Command::Upstream(UpstreamCommand::Install { ref file })) => {
            let certificates =
                std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            runtime.block_on(install_upstream(&config, &certificates, &Clock::system()))?;
            Ok(())
        }
        None => runtime.block_on(serve(config)),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let log_level = telemetry::init(&config.log)?;
    let connections = config.limits.agent_connections.get().into();
    let ca = Ca::start_with_log(config, Clock::system(), log_level).await?;
    // Only now: who is refused a start reads one line.
    runtime::open_files_for(connections);
    let mut signals = pin!(ca.trigger().on_signals().context("cannot take signals")?);
    let mut running = pin!(ca.run(DRAIN));
    let mut forced = false;
    loop {
        tokio::select! {
            outcome = running.as_mut() => return Ok(outcome?),
            () = signals.as_mut(), if !forced => forced = true,
        }
    }
}
