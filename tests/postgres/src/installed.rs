//! Debian's binaries, and the user that may run them: never root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::USER;

/// Where each version has its own binaries.
const VERSIONS: &str = "/usr/lib/postgresql";

#[derive(Debug)]
pub(crate) struct Installed {
    binaries: PathBuf,
    /// Who runs the server, if the tests run as root.
    user: Option<(u32, u32)>,
}

impl Installed {
    /// The newest version.
    pub(crate) fn find() -> Option<Self> {
        let Some(binaries) = newest() else {
            assert!(
                option_env!("CI").is_none(),
                "there is no PostgreSQL below {VERSIONS}: install Debian's postgresql"
            );
            skip();
            return None;
        };
        Some(Self {
            binaries,
            user: unprivileged(),
        })
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A command of the user that runs the server.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// An empty directory of that user.
    pub(crate) fn directory(&self) -> TempDir {
        let directory = tempfile::Builder::new()
            .prefix("countersign-pg-")
            .tempdir()
            .expect("a temporary directory can be made");
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(directory.path(), closed).expect("it is ours");
        self.give(directory.path());
        directory
    }

    /// A file of that user, closed to others.
    pub(crate) fn write(&self, path: &Path, content: &str) {
        fs::write(path, content).expect("the cluster's directory is writable");
        let closed = fs::Permissions::from_mode(0o600);
        fs::set_permissions(path, closed).expect("it is ours");
        self.give(path);
    }

    fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).expect("root may give files away");
        }
    }

    /// Makes a cluster in `data`, which its owner enters without a password.
    pub(crate) fn initialize(&self, data: &Path) {
        let mut initdb = self.command(self.program("initdb"));
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--username", USER, "-D"])
            .arg(data);
        output_of(&mut initdb);
    }
}

pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[expect(
    clippy::print_stderr,
    reason = "who runs the tests must see what was not judged"
)]
fn skip() {
    eprintln!(
        "\nSKIPPED: there is no PostgreSQL below {VERSIONS}; install it with \
         `apt-get install postgresql`\n"
    );
}

fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.flatten();
    let numbered = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries
            .join("initdb")
            .exists()
            .then_some((version, binaries))
    });
    numbered.max().map(|(_, binaries)| binaries)
}

/// Debian's user for it, or the one that owns nothing.
fn unprivileged() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten())
        .expect("every Debian has the user nobody");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}
