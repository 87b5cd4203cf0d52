//! The `countersign` program: all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    countersign::run(std::env::args_os())
}
