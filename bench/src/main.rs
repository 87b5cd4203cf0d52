//! Measures, and prints what was asked for and what the hardware could do beside each figure.
//!
//! Nothing here is a test: a missed goal is printed as missed, with exit status 0.

mod figure;
mod fleet;
mod issue;
mod limit;
mod load;
mod machine;
mod mesh;
mod operator;
mod program;
mod proxy;
mod shop;
mod sidecar;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::figure::Report;

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures Countersign beside the limits of this machine"
)]
struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    name: Name,
    /// Print one JSON line instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Name {
    /// CPU of the CA for each SVID; latency of issuance.
    Issue,
    /// One CA with ten thousand agents; one with a million workloads.
    Fleet(fleet::Options),
    /// CPU, added latency and memory of the proxies, beside other people's.
    Proxy(proxy::Options),
    /// The four binaries together: start, change, restart, rest, memory.
    Mesh,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    runtime::exit::report(run(&arguments))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = match &arguments.name {
        // Load and backend share one thread, so that they cost least and stay on their processor.
        Name::Proxy(options) => Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(proxy::run(options))?,
        Name::Fleet(options) => on_every_processor(fleet::run(options))?,
        Name::Issue => on_every_processor(issue::run())?,
        Name::Mesh => on_every_processor(mesh::run())?,
    };
    let text = if arguments.json {
        report.json()
    } else {
        report.table()
    };
    writeln!(stdout(), "{text}")?;
    Ok(())
}

fn on_every_processor(
    bench: impl Future<Output = anyhow::Result<Report>>,
) -> anyhow::Result<Report> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.context("start the runtime")?.block_on(bench)
}
