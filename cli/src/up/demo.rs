//! The demonstration: three programs, each with an agent and a proxy of its own.
//!
//! Invariant: it writes only objects that are its own, through the CA's public interface, and
//! removes them at the end. Whether all went well is judged by what the programs themselves saw.

mod member;
mod registration;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all, try_join_all};
use identity::{IdTemplate, QualifiedName};
use proxy::{CallRecord, Direction};
use runtime::{Clock, Shutdown};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use workload_agent::status::IdentityStatus;

use super::tally::{Role, Tally};
use super::view::{Display, Scene};
use crate::admin::Client;
use crate::demo::Report;
use crate::output::{self, cell};
use crate::program::Program;
use member::Member;
use registration::Registration;

/// How many of the last decisions are shown.
const DECISIONS: usize = 6;

/// A demonstration at work.
pub(super) struct Demo {
    client: Client,
    clock: Clock,
    registration: Registration,
    members: Vec<Member>,
    reports: Reports,
    tally: Tally,
    decisions: Vec<Arc<CallRecord>>,
    directory: PathBuf,
}

/// What the programs write, and who reads it.
struct Reports {
    readers: JoinSet<()>,
    lines: mpsc::Receiver<(Role, Line)>,
}

/// How a run of the demonstration is shown.
struct Show<'a> {
    display: Display,
    next_steps: &'a str,
    began: Instant,
}

/// Something that a program said.
#[derive(Debug)]
pub(super) enum Line {
    Report(Report),
    /// It said no more: it has ended.
    End,
}

impl Demo {
    /// Starts everything; `None` if a signal came first.
    pub(super) async fn start(
        client: Client,
        directory: PathBuf,
        clock: Clock,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Option<Self>> {
        let (lines_in, lines) = mpsc::channel(64);
        let mut readers = JoinSet::new();
        member::fresh_directory(&directory)?;
        let (orders, address) =
            member::start_orders(&directory, &mut readers, lines_in.clone()).await?;
        let registration = Registration::create(&client, address.port()).await?;
        let reports = Reports { readers, lines };
        let mut demo = Self {
            client,
            clock,
            registration,
            members: Vec::new(),
            reports,
            tally: Tally::default(),
            decisions: Vec::new(),
            directory,
        };
        let started = tokio::select! {
            started = demo.start_members(orders, address.port(), lines_in) => started.map(|()| true),
            () = shutdown.draining() => Ok(false),
        };
        match started {
            Ok(true) => Ok(Some(demo)),
            Ok(false) => demo.end().await.map(|()| None),
            Err(error) => {
                // The first error is the one to report.
                drop(demo.end().await);
                Err(error)
            }
        }
    }

    async fn start_members(
        &mut self,
        orders: Program,
        port: u16,
        lines: mpsc::Sender<(Role, Line)>,
    ) -> anyhow::Result<()> {
        let starting = Role::ALL.map(|role| {
            let token = self.registration.token(role);
            Member::start(role, &self.directory, token, port, &self.clock)
        });
        self.members = try_join_all(starting).await?;
        let mut orders = Some(orders);
        for member in &mut self.members {
            match (member.role(), orders.take()) {
                (Role::Orders, Some(program)) => member.adopt(program)?,
                (_, kept) => {
                    orders = kept;
                    member
                        .start_program(&mut self.reports.readers, lines.clone())
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Shows the mesh at work until the time is over or a signal comes, and judges it.
    pub(super) async fn run(
        mut self,
        length: Option<Duration>,
        json: bool,
        next_steps: &str,
        shutdown: &Shutdown,
    ) -> anyhow::Result<ExitCode> {
        let show = Show {
            display: Display::choose(json),
            next_steps,
            began: Instant::now(),
        };
        let watched = self.watch(length, &show, shutdown).await;
        let stopped = self.stop_callers().await;
        let identities = self.identities();
        let revision = self.revision().await;
        let tally = self.tally.clone();
        let ended = self.end().await;
        watched?;
        stopped?;
        ended?;
        let renewals = identities.iter().map(|identity| identity.renewals).sum();
        if json {
            print_outcome(&identities, &tally, &revision?)?;
        }
        let faults = if length.is_some() || json {
            tally.faults(renewals)
        } else {
            Vec::new()
        };
        for fault in &faults {
            output::remark(&format!("fault: {fault}"));
        }
        Ok(if faults.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    async fn watch(
        &mut self,
        length: Option<Duration>,
        show: &Show<'_>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let over = async {
            match length {
                Some(length) => tokio::time::sleep(length).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        let mut calls = self.members[0].sidecar().calls();
        let mut ticks = interval(show.display.period());
        let mut revision = self.revision().await?;
        show.display.begin()?;
        loop {
            tokio::select! {
                () = &mut over => return Ok(()),
                () = shutdown.draining() => return Ok(()),
                failed = any_failed(&mut self.members) => return Err(failed),
                Some((role, line)) = self.reports.lines.recv() => self.hear(role, line)?,
                call = calls.recv() => self.remember(call),
                _ = ticks.tick() => {
                    revision = self.applied_revision().unwrap_or(revision);
                    self.show(show, &revision)?;
                }
            }
        }
    }

    fn hear(&mut self, role: Role, line: Line) -> anyhow::Result<()> {
        match line {
            Line::Report(report) => {
                self.tally.count(role, &report);
                Ok(())
            }
            Line::End => anyhow::bail!("the program shop/{} has ended", role.name()),
        }
    }

    fn remember(&mut self, call: Result<Arc<CallRecord>, broadcast::error::RecvError>) {
        if let Ok(call) = call
            && call.direction == Direction::Inbound
        {
            self.decisions.insert(0, call);
            self.decisions.truncate(DECISIONS);
        }
    }

    fn show(&self, show: &Show<'_>, revision: &str) -> io::Result<()> {
        show.display.show(&Scene {
            now: self.clock.now(),
            running: show.began.elapsed(),
            next_steps: show.next_steps,
            url: &self.client.url(),
            revision,
            identities: &self.identities(),
            tally: &self.tally,
            decisions: &self.decisions,
        })
    }

    /// The identity of each of the three workloads, as its agent has it.
    fn identities(&self) -> Vec<IdentityStatus> {
        let template = IdTemplate::default();
        let of = |member: &Member| {
            let id = template.id(self.client.trust_domain(), &workload(member.role()));
            member
                .sidecar()
                .agent_status()
                .borrow()
                .identity(&id)
                .cloned()
        };
        self.members.iter().filter_map(of).collect()
    }

    fn applied_revision(&self) -> Option<String> {
        self.members
            .first()?
            .sidecar()
            .agent_status()
            .borrow()
            .revision
            .clone()
    }

    async fn revision(&self) -> anyhow::Result<String> {
        Ok(cell(&self.client.get("/v1/about").await?, "/revision"))
    }

    /// Ends the callers, each after the call it is in, and hears what they said last.
    async fn stop_callers(&mut self) -> anyhow::Result<()> {
        let callers = self
            .members
            .iter_mut()
            .filter(|member| member.role() != Role::Orders);
        let stopped = join_all(callers.map(Member::end_program)).await;
        while let Ok(Some((role, line))) =
            tokio::time::timeout(Duration::from_millis(200), self.reports.lines.recv()).await
        {
            if let Line::Report(report) = line {
                self.tally.count(role, &report);
            }
        }
        stopped.into_iter().collect::<io::Result<()>>()?;
        Ok(())
    }

    /// Ends programs, proxies and agents, and removes what was written into the mesh.
    async fn end(mut self) -> anyhow::Result<()> {
        let programs = join_all(self.members.iter_mut().map(Member::end_program)).await;
        let drained = join_all(self.members.drain(..).map(Member::drain)).await;
        self.registration.withdraw(&self.client).await;
        self.reports.readers.shutdown().await;
        drop(std::fs::remove_dir_all(&self.directory));
        programs.into_iter().collect::<io::Result<()>>()?;
        Ok(drained.into_iter().collect::<Result<(), _>>()?)
    }
}

async fn any_failed(members: &mut [Member]) -> anyhow::Error {
    if members.is_empty() {
        return std::future::pending().await;
    }
    let (failed, _, _) =
        select_all(members.iter_mut().map(|member| Box::pin(member.failed()))).await;
    failed
}

/// `shop/<role>`.
pub(super) fn workload(role: Role) -> QualifiedName {
    let name = format!("shop/{}", role.name());
    name.parse()
        .expect("the demonstration's names are DNS labels")
}

/// The line that `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    identities: Vec<Value>,
    calls: Calls,
    revision: &'a str,
}

#[derive(Serialize)]
struct Calls {
    allowed: u64,
    denied: u64,
    failed: u64,
}

fn print_outcome(
    identities: &[IdentityStatus],
    tally: &Tally,
    revision: &str,
) -> anyhow::Result<()> {
    let identity = |identity: &IdentityStatus| {
        let whole = serde_json::to_value(identity)?;
        Ok(json!({
            "spiffe_id": whole["spiffe_id"],
            "serial": whole["serial"],
            "not_after": whole["not_after"],
            "renewals": whole["renewals"],
        }))
    };
    let outcome = Outcome {
        identities: identities
            .iter()
            .map(identity)
            .collect::<Result<_, serde_json::Error>>()?,
        calls: Calls {
            allowed: tally.allowed,
            denied: tally.denied,
            failed: tally.failed,
        },
        revision,
    };
    output::print_text(&(serde_json::to_string(&outcome)? + "\n"))
}
