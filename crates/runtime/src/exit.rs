//! How a process ends: an exit code, and at most one line on standard error.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use thiserror::Error;

use crate::config::ConfigError;

/// The exit code for a wrong invocation or configuration (`EX_USAGE` of sysexits.h).
pub const USAGE: u8 = 64;

/// Prints an error and its causes on one line of standard error, and says how to exit: 0, 64 for
/// usage and configuration, or 1 for everything else.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Where standard error is closed, the exit code is all that can still be said.
    drop(writeln!(
        io::stderr(),
        "error: {}",
        one_line(error.as_ref())
    ));
    code(&error)
}

/// Prints a wrong invocation, as the parser of arguments put it in paragraphs, on one line, and says
/// how to exit.
pub fn misuse(text: &str) -> ExitCode {
    drop(writeln!(io::stderr(), "{}", one_paragraph(text)));
    ExitCode::from(USAGE)
}

/// An error and its causes, joined by `: `, without line breaks.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| {
        (*error).source()
    });
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").replace(['\n', '\r'], " ")
}

/// A wrong invocation; the text says what to write instead.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Usage(pub String);

fn one_paragraph(text: &str) -> String {
    let paragraph = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let paragraphs: Vec<String> = text.split("\n\n").map(paragraph).collect();
    paragraphs.join("; ")
}

fn code(error: &anyhow::Error) -> ExitCode {
    let usage = |cause: &(dyn Error + 'static)| cause.is::<ConfigError>() || cause.is::<Usage>();
    if error.chain().any(usage) {
        ExitCode::from(USAGE)
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn configuration_errors_exit_with_64_through_any_context() {
        let wrong = crate::config::load::<toml::Table>("/nonexistent").map(drop);
        let result = wrong.context("cannot start");
        assert_eq!(report(result), ExitCode::from(64));
    }

    #[test]
    fn other_errors_exit_with_1() {
        let result = Err(io::Error::other("disk full")).context("cannot start");
        assert_eq!(report(result), ExitCode::FAILURE);
    }

    #[test]
    fn paragraphs_of_a_wrong_invocation_are_one_line() {
        let text = "error: no such thing\n\n  tip: another thing\n\nUsage: x\n";
        let line = "error: no such thing; tip: another thing; Usage: x";
        assert_eq!(one_paragraph(text), line);
        assert_eq!(misuse(text), ExitCode::from(64));
    }

    #[test]
    fn causes_are_on_one_line() {
        let error = anyhow::Error::new(io::Error::other("disk\nfull")).context("cannot start");
        assert_eq!(one_line(error.as_ref()), "cannot start: disk full");
    }
}
