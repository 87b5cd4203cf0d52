//! `proxy`: what a pair of sidecars costs, adds and weighs, beside other people's proxies that make
//! the same checks with the same certificates, in one run.
//!
//! One worker a proxy, all proxies on one processor, load and backend on another. CPU time of the
//! proxies is what counts: elapsed time on a shared machine says little.

use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::figure::{Figure, Report};
use crate::load::backend::Backend;
use crate::load::handshakes::{Client, KeyExchange};
use crate::machine::{self, Places, pin};
use identities::{Files, Identities};
use ours::{Ours, Settings};
use pair::Pair;
use peer::{Peer, Ports, Site};
use rounds::{Patience, Rounds};
use topic::{Stage, Topic};

mod check;
mod identities;
mod identity_check;
mod idle;
mod ours;
mod pair;
mod peer;
mod renewal;
mod rounds;
mod slow_reader;
mod topic;
mod weight;
mod workers;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds of each comparison.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How often a round that others disturbed is repeated.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Only these, comma-separated.
    #[arg(long, value_delimiter = ',', value_parser = topic_name)]
    only: Vec<String>,
    /// Envoy's program.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Ours alone, without peers.
    #[arg(long)]
    alone: bool,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn patience(&self) -> Patience {
        Patience {
            rounds: self.rounds.max(1),
            repeats: self.repeats,
        }
    }
}

/// What is not compared but measured of ours alone.
const OF_OURS: [&str; 6] = [
    "check",
    "rss",
    "slow_reader",
    "workers2",
    "idle_conn",
    "renewal",
];

fn topic_name(text: &str) -> Result<String, String> {
    let topics = Topic::value_variants().iter().map(|topic| topic.name());
    let mut names: Vec<String> = OF_OURS
        .map(str::to_owned)
        .into_iter()
        .chain(topics)
        .collect();
    match names.iter().position(|name| name == text) {
        Some(place) => Ok(names.swap_remove(place)),
        None => Err(format!("one of {}", names.join(", "))),
    }
}

pub(crate) async fn run(options: &Options) -> Result<Report> {
    let places = Places::find()?;
    let open_files = runtime::raise_open_files()?;
    let machine = machine::describe();
    pin(std::process::id(), &[places.load])?;
    let backend = Backend::start().await?;
    let ours = Ours::start(&backend, &Settings::default()).await?;
    let identities = Identities::fetch(ours.workload_api()).await?;
    identity_check::of_client(&ours.pair, &identities).await?;
    let files = identities.write(&ours.operator.directory().join("peers"))?;
    let peers = peers(options, &files, &identities, &backend).await?;
    let pairs = std::iter::once(&ours.pair).chain(peers.iter().map(|peer| &peer.pair));
    let pairs: Vec<&Pair> = pairs.collect();
    for pair in &pairs {
        pair.pin(&[places.measured])?;
    }
    let stage = Stage {
        backend: &backend,
        x25519: Client::new(&identities.checkout, KeyExchange::X25519, ALPN)?,
        hybrid: Client::new(&identities.checkout, KeyExchange::X25519MlKem768, ALPN).ok(),
    };
    let mut figures = Vec::new();
    if options.wants("check") {
        say("check");
        figures.extend(check::figures(&identities, options.rounds).await?);
    }
    if options.wants("rss") {
        say("rss");
        figures.extend(weight::figures(&pairs, &identities).await?);
    }
    figures.extend(compare(options, &pairs, &stage).await?);
    if options.wants("slow_reader") {
        say("slow_reader");
        figures.extend(slow_reader::figures(&ours.pair, options.patience()).await?);
    }
    if options.wants("workers2") {
        say("workers2");
        figures.extend(workers::figures(&backend, places, options.patience()).await?);
    }
    if options.wants("idle_conn") {
        say("idle_conn");
        figures.extend(idle::figures(&ours.pair, &identities, open_files).await?);
    }
    if options.wants("renewal") {
        say("renewal");
        figures.extend(renewal::figures(&ours.pair, &backend, places, options.patience()).await?);
    }
    let mut report = Report::new("proxy", figures);
    report.machine = format!("{machine}, TCP paced by {}", machine::congestion_control());
    report.beside = peers.into_iter().map(|peer| peer.version).collect();
    Ok(report)
}

/// As a mesh offers them.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

async fn compare(options: &Options, pairs: &[&Pair], stage: &Stage<'_>) -> Result<Vec<Figure>> {
    let topics = Topic::value_variants().iter().copied();
    let mut all: Vec<(String, Rounds)> = topics
        .map(|topic| (topic.name(), Rounds::new(topic, pairs)))
        .filter(|(name, _)| options.wants(name))
        .collect();
    let patience = options.patience();
    for round in 1..=patience.rounds {
        for (name, rounds) in &mut all {
            say(&format!("{name}, round {round} of {}", patience.rounds));
            rounds.add(pairs, stage, patience).await?;
        }
    }
    Ok(all
        .iter()
        .flat_map(|(_, rounds)| rounds.figures())
        .collect())
}

/// Those that are installed; the others are named loudly.
async fn peers(
    options: &Options,
    files: &Files,
    identities: &Identities,
    backend: &Backend,
) -> Result<Vec<Peer>> {
    let mut peers = Vec::new();
    if options.alone {
        return Ok(peers);
    }
    let site = || Site {
        files,
        identities,
        backend,
        ports: Ports::free(),
    };
    let envoy = options
        .envoy
        .as_deref()
        .unwrap_or_else(|| Path::new("envoy"));
    let (haproxy, nginx, of_envoy) = (site(), site(), site());
    let plans = [
        (peer::haproxy::plan(&haproxy).await?, haproxy, "haproxy"),
        (peer::nginx::plan(&nginx).await?, nginx, "nginx"),
        (
            peer::envoy::plan(envoy, &of_envoy).await?,
            of_envoy,
            "envoy",
        ),
    ];
    for (plan, site, name) in plans {
        match plan {
            Some(plan) => peers.push(Peer::start(plan, &site).await?),
            None => say(&format!(
                "WARNING: {name} is NOT INSTALLED and NOT COMPARED"
            )),
        }
    }
    Ok(peers)
}

/// Progress, where nobody parses it.
fn say(text: &str) {
    // Without a reader of stderr, nothing that counts is lost.
    let _unheard = writeln!(stderr(), "{text}");
}
