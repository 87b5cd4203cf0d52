//! One program of the demonstration with its sidecar.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use runtime::{Clock, TaskFailed};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{Line, Role, workload};
use crate::demo::Report;
use crate::port_spec::PortSpec;
use crate::program::{Launch, Program};
use crate::sidecar::{Plan, Sidecar};

const READY_WITHIN: Duration = Duration::from_secs(20);
const END_WITHIN: Duration = Duration::from_secs(6);

/// A sidecar and, once it is live, its program.
pub(super) struct Member {
    role: Role,
    directory: PathBuf,
    sidecar: Sidecar,
    program: Option<Program>,
}

impl Member {
    /// Starts the sidecar and waits until it is live.
    pub(super) async fn start(
        role: Role,
        directory: &Path,
        token: Zeroizing<String>,
        orders_port: u16,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let directory = directory.join(role.name());
        runtime::files::private_directory(&directory)?;
        let ports = if role == Role::Orders {
            vec![http(orders_port)]
        } else {
            Vec::new()
        };
        let plan = Plan {
            workload: workload(role),
            directory: directory.clone(),
            token: Some(token),
            ports,
            reach: Vec::new(),
        };
        let mut sidecar = Sidecar::start(&plan, clock).await?;
        sidecar.ready(READY_WITHIN).await?;
        Ok(Self {
            role,
            directory,
            sidecar,
            program: None,
        })
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    /// Takes over a program that runs already.
    pub(super) fn adopt(&mut self, program: Program) -> io::Result<()> {
        self.sidecar.spawned(program.pid())?;
        self.program = Some(program);
        Ok(())
    }

    /// Starts the program with the sidecar's environment.
    pub(super) async fn start_program(
        &mut self,
        readers: &mut JoinSet<()>,
        lines: mpsc::Sender<(Role, Line)>,
    ) -> anyhow::Result<()> {
        let environment = self.sidecar.environment();
        let sidecar = &self.sidecar;
        let mut program = launch(self.role, &self.directory, environment, |pid| {
            sidecar.spawned(pid)
        })
        .await?;
        let said = said(&mut program)?;
        readers.spawn(pass_on(self.role, said, lines));
        self.program = Some(program);
        Ok(())
    }

    /// Asks the program to end, and kills it if it does not.
    pub(super) async fn end_program(&mut self) -> io::Result<()> {
        let Some(mut program) = self.program.take() else {
            return Ok(());
        };
        program.signal(Signal::TERM);
        if timeout(END_WITHIN, program.wait()).await.is_err() {
            program.signal(Signal::KILL);
            program.wait().await?;
        }
        Ok(())
    }

    /// Resolves when a part of the sidecar has died.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        let failed = self.sidecar.failed().await;
        anyhow::Error::new(failed).context(format!("the sidecar of shop/{}", self.role.name()))
    }

    pub(super) async fn drain(self) -> Result<(), TaskFailed> {
        self.sidecar.drain().await
    }
}

/// Starts the server, which has to tell its port before its sidecar can be configured.
pub(super) async fn start_orders(
    directory: &Path,
    readers: &mut JoinSet<()>,
    lines: mpsc::Sender<(Role, Line)>,
) -> anyhow::Result<(Program, SocketAddr)> {
    let mut program = launch(Role::Orders, directory, Vec::new(), |_| Ok(())).await?;
    let mut said = said(&mut program)?;
    let first = timeout(END_WITHIN, said.next_line())
        .await
        .context("shop/orders does not start")??;
    let report = serde_json::from_str(&first.context("shop/orders ended at once")?)?;
    let Report::Listening { address } = report else {
        anyhow::bail!("shop/orders did not say where it listens");
    };
    readers.spawn(pass_on(Role::Orders, said, lines));
    Ok((program, address))
}

/// An empty private directory: nothing of an earlier demonstration is of use.
pub(super) fn fresh_directory(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot empty {}", directory.display()))
        }
        _ => Ok(runtime::files::private_directory(directory)?),
    }
}

async fn launch(
    role: Role,
    directory: &Path,
    environment: Vec<(&'static str, String)>,
    register: impl FnOnce(u32) -> io::Result<()>,
) -> anyhow::Result<Program> {
    let command = ["/proc/self/exe", "demo-program", role.name()].map(OsString::from);
    let launch = Launch {
        command: &command,
        environment,
        directory,
        stdout: Stdio::piped(),
    };
    let started = Program::start(launch, register).await;
    started.with_context(|| format!("cannot start the program shop/{}", role.name()))
}

fn said(program: &mut Program) -> anyhow::Result<Lines<BufReader<ChildStdout>>> {
    let stdout = program
        .stdout()
        .context("the program's output is not piped")?;
    Ok(BufReader::new(stdout).lines())
}

async fn pass_on(
    role: Role,
    mut said: Lines<BufReader<ChildStdout>>,
    lines: mpsc::Sender<(Role, Line)>,
) {
    while let Ok(Some(text)) = said.next_line().await {
        let report = serde_json::from_str(&text).unwrap_or_else(|_| Report::Broken {
            error: format!("an unreadable report: {text}"),
        });
        if lines.send((role, Line::Report(report))).await.is_err() {
            return;
        }
    }
    // Nobody listens any more when the demonstration itself ends.
    drop(lines.send((role, Line::End)).await);
}

fn http(app: u16) -> PortSpec {
    format!("http={app}")
        .parse()
        .expect("a bound port is not 0")
}
