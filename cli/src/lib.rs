//! The operator's tool: one module for each command, and the client of the CA's REST interface.
//!
//! Invariant: it holds no authority of its own. Everything it changes goes through the same
//! interface as a `curl` would, and its secret is sent only to a CA that has proved to be one.

pub mod admin;
mod agent;
mod apply;
mod arguments;
mod authority;
mod completions;
mod delete;
mod demo;
mod downstream;
mod explain;
mod get;
mod join_token;
mod kind;
mod log;
mod manifest;
mod objects;
mod output;
mod port_spec;
mod program;
mod proxies;
mod redirect;
mod revocation;
mod run;
mod screen;
mod sidecar;
mod status;
mod store;
mod tap;
mod top;
mod up;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use runtime::exit;

use arguments::{Command, CommandLine};

/// Runs one command line, program name first, and says how the process is to exit.
pub fn run<I, A>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = A>,
    A: Into<OsString> + Clone,
{
    match CommandLine::try_parse_from(arguments) {
        Ok(line) => dispatch(line.command),
        Err(answer) => explain_usage(&answer),
    }
}

/// Help and version are asked for; the rest is a wrong invocation, told on one line.
fn explain_usage(answer: &clap::Error) -> ExitCode {
    let text = answer.render().to_string();
    let text = text.trim_end();
    if !answer.use_stderr() {
        return exit::report(output::print_text(&format!("{text}\n")));
    }
    if answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::remark(text);
        return ExitCode::from(exit::USAGE);
    }
    exit::misuse(text)
}

fn dispatch(command: Command) -> ExitCode {
    match command {
        Command::Up(command) => finish(command.run()),
        Command::Run(command) => finish(command.run()),
        Command::Apply(command) => exit::report(block_on(command.run())),
        Command::Get(command) => exit::report(block_on(command.run())),
        Command::Delete(command) => exit::report(block_on(command.run())),
        Command::Explain(command) => exit::report(block_on(command.run())),
        Command::Agent(command) => exit::report(block_on(command.run())),
        Command::Authority(command) => exit::report(block_on(command.run())),
        Command::Downstream(command) => exit::report(block_on(command.run())),
        Command::JoinToken(command) => exit::report(block_on(command.run())),
        Command::Log(command) => exit::report(block_on(command.run())),
        Command::Redirect(command) => command.run(),
        Command::Revocation(command) => exit::report(block_on(command.run())),
        Command::Revoke(command) => exit::report(block_on(command.run())),
        Command::Status(command) => exit::report(block_on(command.run())),
        Command::Store(command) => exit::report(block_on(command.run())),
        Command::Tap(command) => exit::report(block_on(command.run())),
        Command::Top(command) => exit::report(block_on(command.run())),
        Command::Completions(command) => exit::report(command.run()),
        Command::DemoProgram(command) => exit::report(block_on(command.run())),
        Command::ExecWhenRegistered(command) => command.run(),
    }
}

/// For commands whose exit code is more than success or failure.
fn finish(work: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let finished = start_tokio()
        .map_err(Into::into)
        .and_then(|tokio| tokio.block_on(work));
    finished.unwrap_or_else(|error| exit::report(Err(error)))
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    start_tokio()?.block_on(work)
}

fn start_tokio() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}
