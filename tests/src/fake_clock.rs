//! A clock that some processes have, and a claim moves: Debian's libfaketime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const RIGHT: &str = "+0s";
const LIBRARY: &str = "libfaketime.so.1";

/// What these processes read as the time of day. Their monotonic clock is the host's.
#[derive(Debug)]
pub struct FakeClock {
    directory: TempDir,
    library: PathBuf,
}

impl FakeClock {
    /// A clock that is right. `None` where there is no libfaketime.
    ///
    /// # Panics
    /// There is none, and this is CI.
    pub fn obtain() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = Self {
            library: library()?,
            directory,
        };
        clock.set(RIGHT);
        Some(clock)
    }

    /// Off by so much, as `+300s`. Whoever reads it meanwhile reads the one or the other.
    pub fn set(&self, offset: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, offset).expect("the directory is ours");
        fs::rename(next, self.file()).expect("the directory is ours");
    }

    pub fn set_right(&self) {
        self.set(RIGHT);
    }

    /// For the processes that are to have this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let variables = [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}

#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn library() -> Option<PathBuf> {
    let library = of_package().or_else(of_program);
    if library.is_none() {
        assert!(
            option_env!("CI").is_none(),
            "there is no libfaketime: install Debian's libfaketime"
        );
        eprintln!(
            "SKIPPED: there is no libfaketime; install it with `apt-get install libfaketime`"
        );
    }
    library
}

/// Where the package manager has put it, whatever the architecture.
fn of_package() -> Option<PathBuf> {
    let listed = said(Command::new("dpkg").args(["-L", "libfaketime"]))?;
    let mut files = listed.lines().map(PathBuf::from);
    let library = files.find(|path| path.file_name().is_some_and(|name| name == LIBRARY));
    library.filter(|path| path.exists())
}

/// What the `faketime` program would preload.
fn of_program() -> Option<PathBuf> {
    let preloaded = said(Command::new("faketime").args(["-f", RIGHT, "printenv", "LD_PRELOAD"]))?;
    let mut libraries = preloaded.trim().split(':').map(PathBuf::from);
    libraries.find(|path| path.exists())
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|it| it.status.success())?;
    String::from_utf8(output.stdout).ok()
}
