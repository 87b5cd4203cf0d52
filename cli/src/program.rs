//! A program of the user's, started so that the agent knows it before it runs.
//!
//! The child first runs this very binary, which asks the kernel to be killed with its parent,
//! waits at a gate until the parent has told the agent its pid, and then becomes the program
//! (`exec` keeps the pid). Invariant: the administrator's credential is not passed on.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, ExitCode, ExitStatus, Stdio};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::process::{Child, ChildStdout, Command};

use crate::output;

/// The way of naming this binary that outlives its replacement on disk.
const THIS_BINARY: &str = "/proc/self/exe";
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    /// The program and its arguments.
    pub(crate) command: &'a [OsString],
    /// Added to this process's environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// A private directory for the gate.
    pub(crate) directory: &'a Path,
    /// Where its standard output goes.
    pub(crate) stdout: Stdio,
}

/// A running program. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pid: u32,
}

impl Program {
    /// Starts it; `register` gets the pid before the program's first instruction.
    ///
    /// The kernel kills the child when the *thread* that started it ends, so this is called on the
    /// main thread.
    pub(crate) async fn start(
        launch: Launch<'_>,
        register: impl FnOnce(u32) -> io::Result<()>,
    ) -> Result<Self, ProgramError> {
        let gate = Gate::bind(launch.directory.join("gate.sock")).map_err(ProgramError::Gate)?;
        let mut child = Command::new(THIS_BINARY)
            .arg("exec-when-registered")
            .arg("--parent")
            .arg(std::process::id().to_string())
            .arg("--gate")
            .arg(&gate.path)
            .arg("--")
            .args(launch.command)
            .envs(launch.environment)
            .env_remove("COUNTERSIGN_ADMIN")
            .env_remove("COUNTERSIGN_JOIN_TOKEN")
            .stdout(launch.stdout)
            .kill_on_drop(true)
            .spawn()
            .map_err(ProgramError::Spawn)?;
        let pid = child.id().ok_or(ProgramError::EndedEarly)?;
        register(pid).map_err(ProgramError::Register)?;
        tokio::select! {
            opened = gate.open() => opened.map_err(ProgramError::Gate)?,
            _ = child.wait() => return Err(ProgramError::EndedEarly),
        }
        Ok(Self { child, pid })
    }

    /// Its process id, as long as [`Program::wait`] has not returned.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its standard output, once, where that was a pipe.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends a signal, unless the program has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // The only error left is that it has just ended.
            let _ended = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// Why a program could not be started.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    #[error("cannot start a process")]
    Spawn(#[source] io::Error),
    #[error("cannot hold the program back until it is known to the agent")]
    Gate(#[source] io::Error),
    #[error("the agent cannot watch the program")]
    Register(#[source] io::Error),
    #[error("the process ended before the program could start")]
    EndedEarly,
}

struct Gate {
    listener: UnixListener,
    path: PathBuf,
}

impl Gate {
    fn bind(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::bind(&path)?,
            path,
        })
    }

    /// Lets the one that waits pass: its connection is closed.
    async fn open(&self) -> io::Result<()> {
        self.listener.accept().await.map(drop)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // The directory goes with the program.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Becomes a program once the parent says so (used by `run` and `up`)
#[derive(Debug, Args)]
pub(crate) struct ExecWhenRegistered {
    #[arg(long)]
    parent: i32,
    #[arg(long)]
    gate: PathBuf,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl ExecWhenRegistered {
    /// Returns only if the program could not be started.
    pub(crate) fn run(self) -> ExitCode {
        if let Err(error) = self.wait() {
            output::remark(&format!("error: cannot wait for the agent: {error}"));
            return ExitCode::FAILURE;
        }
        let Some((program, arguments)) = self.command.split_first() else {
            return ExitCode::FAILURE;
        };
        let error = StdCommand::new(program).args(arguments).exec();
        let name = program.to_string_lossy();
        output::remark(&format!("error: cannot start `{name}`: {error}"));
        let missing = error.kind() == io::ErrorKind::NotFound;
        ExitCode::from(if missing { NOT_FOUND } else { NOT_EXECUTABLE })
    }

    fn wait(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that was gone before the line above sends no signal.
        if getppid().map(Pid::as_raw_pid) != Some(self.parent) {
            return Err(io::Error::other("the parent has ended"));
        }
        let mut gate = UnixStream::connect(&self.gate)?;
        gate.read_to_end(&mut Vec::new()).map(drop)
    }
}
