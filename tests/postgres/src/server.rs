//! One running server. A shell stands between it and the test: when the test's end of a pipe is
//! closed, by a drop, a panic or `kill -9`, the shell ends the server.

use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::installed::Installed;

/// `$1`: the server, `$2`: its directory. A line keeps the data; without one it goes too.
const KEEPER: &str = r#"
trap '' INT TERM HUP
"$1" -D "$2/data" >"$2/log" 2>&1 </dev/null &
read -r keep
kill -QUIT $! 2>/dev/null
wait $!
[ "$keep" = keep ] || rm -rf "$2"
"#;
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Server {
    keeper: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Returns once the server takes connections.
    pub(crate) fn start(installed: &Installed, directory: &Path) -> Self {
        // Left by a server that was ended as a power failure would.
        drop(fs::remove_file(directory.join("data/postmaster.pid")));
        let mut keeper = installed
            .command("/bin/sh")
            .args(["-c", KEEPER, "sh"])
            .arg(installed.program("postgres"))
            .arg(directory)
            .stdin(Stdio::piped())
            .spawn()
            .expect("every Debian has a shell");
        let pipe = keeper.stdin.take();
        let server = Self { keeper, pipe };
        await_ready(directory);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // A keeper that is gone has nothing left to keep.
            drop(std::io::Write::write_all(&mut pipe, b"keep\n"));
        }
        drop(self.keeper.wait());
    }
}

fn await_ready(directory: &Path) {
    let mut waited = Duration::ZERO;
    loop {
        let state = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
        if state.lines().any(|line| line.trim() == "ready") {
            return;
        }
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(
            waited < STARTS_WITHIN,
            "PostgreSQL does not start: {}",
            log()
        );
        sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}
