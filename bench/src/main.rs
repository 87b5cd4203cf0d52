//! Measures, and prints what was asked for and what the hardware could do beside each figure.
//!
//! Nothing here is a test: a missed goal is printed as missed, with exit status 0.

mod figure;
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

use clap::{Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    about = "Measures Countersign beside the limits of this machine"
)]
struct Arguments {
    /// What to measure.
    name: Name,
    /// Print one JSON line instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// CPU of the CA for each SVID; latency of issuance.
    Issue,
    /// CPU, added latency and memory of the proxies.
    Proxy,
    /// The four binaries together: start, change, restart, rest, memory.
    Mesh,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    runtime::exit::report(run(&arguments))
}

#[tokio::main]
async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let report = match arguments.name {
        Name::Issue => issue::run().await?,
        Name::Proxy => proxy::run().await?,
        Name::Mesh => mesh::run().await?,
    };
    let text = if arguments.json {
        report.json()
    } else {
        report.table()
    };
    writeln!(stdout(), "{text}")?;
    Ok(())
}
