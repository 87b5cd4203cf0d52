//! `./dev soak`: a mesh of real processes under everything at once, for minutes.
//!
//! What must hold: no permitted call fails; no forbidden one passes once the revision that
//! forbids it is acknowledged; memory and descriptors stay flat. Excused are only calls that were
//! in flight when a receiving proxy was killed without warning. One JSON line at the end, and an
//! exit status that says whether all of it held.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::calls::Tally;
use crate::usage::Usage;

mod calls;
mod changes;
mod mayhem;
mod usage;
mod world;

/// Runs a mesh of real processes under renewals, policy changes and crashes.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long.
    #[arg(long = "for", default_value = "10m", value_parser = humantime::parse_duration)]
    length: Duration,
    /// Decides what happens when.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()));
    say(&format!("seed {seed}, for {:?}", arguments.length));
    let world = world::World::start().await;
    let tally = Arc::new(Tally::default());
    let end = CancellationToken::new();
    let callers = calls::spawn(world.outbound(), &tally, &end);
    let changes = changes::spawn(&world, &tally, &end);
    let usage = usage::spawn(&world, &end);
    let world = mayhem::run(world, &tally, seed, arguments.length).await;
    end.cancel();
    changes.join_all().await;
    callers.join_all().await;
    let usage = usage.join_all().await.pop().unwrap_or_default();
    drop(world);
    report(&tally, &usage, seed, arguments.length)
}

fn report(tally: &Tally, usage: &Usage, seed: u64, length: Duration) -> ExitCode {
    let held = tally.held() && usage.is_flat();
    let line = serde_json::json!({
        "soak": {
            "held": held,
            "seed": seed,
            "seconds": length.as_secs(),
            "calls": tally.figures(),
            "usage": usage.figures(),
        }
    });
    let mut out = std::io::stdout();
    // Nobody reads: the exit status still tells.
    drop(writeln!(out, "{line}"));
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// To standard error: standard output is for the figures.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "soak: {text}"));
}
