//! The binaries as an operator starts them: each a process of its own with its own TOML file, in
//! a directory that ends with the handle. For kill -9, for memory, and for measuring CPU.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// A running binary. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `binary --config <directory>/<name>.toml`; what it says goes to `<name>.log`.
    ///
    /// # Panics
    /// When the binary was not built: `cargo build --workspace --bins` does it.
    pub fn start(binary: &str, directory: &Path, name: &str, config: &str) -> Self {
        Self::start_with(binary, directory, name, config, &[])
    }

    /// With more arguments than the configuration.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub fn start_with(
        binary: &str,
        directory: &Path,
        name: &str,
        config: &str,
        arguments: &[&str],
    ) -> Self {
        Self::start_among(binary, directory, name, config, arguments, &[])
    }

    /// With more arguments, and with these variables beside ours.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub fn start_among(
        binary: &str,
        directory: &Path,
        name: &str,
        config: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let config_file = directory.join(format!("{name}.toml"));
        fs::write(&config_file, config).expect("the test's directory is writable");
        let log = directory.join(format!("{name}.log"));
        let output = fs::File::create(&log).expect("the test's directory is writable");
        let errors = output.try_clone().expect("a file can be shared");
        let path = binary_path(binary);
        let child = Command::new(&path)
            .arg("--config")
            .arg(config_file)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{}: {error}; build it with: cargo build --workspace --bins",
                    path.display()
                )
            });
        Self { child, log }
    }

    /// It does nothing until it is resumed.
    ///
    /// # Panics
    /// When it has ended.
    pub fn suspend(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// # Panics
    /// When it has ended.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        kill(Pid::from_raw(pid), signal).expect("our own child can be signalled");
    }

    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child
            .id()
            .unwrap_or_else(|| panic!("it has ended: {}", self.said()))
    }

    /// What it logged so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As a crash or the kernel would end it.
    pub async fn kill(mut self) {
        self.kill_now().await;
    }

    /// As [`Process::kill`]; the handle stays, for what it said.
    pub async fn kill_now(&mut self) {
        self.child
            .kill()
            .await
            .expect("our own child can be killed");
    }

    /// As an operator would end it.
    pub async fn terminate(mut self) -> ExitStatus {
        self.terminate_now().await
    }

    /// As [`Process::terminate`]; the handle stays, for what it said.
    pub async fn terminate_now(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child can be signalled");
        self.child
            .wait()
            .await
            .expect("our own child can be awaited")
    }

    /// Asks it to end, as an operator would, without waiting.
    ///
    /// # Panics
    /// When it has ended.
    pub fn ask_to_end(&self) {
        let pid = i32::try_from(self.pid()).expect("process ids are positive");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child can be signalled");
    }

    /// How it ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child
            .wait()
            .await
            .expect("our own child can be awaited")
    }
}

/// Where cargo puts a workspace's binary: beside the running one, or above its `deps` folder.
pub fn binary_path(binary: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let folder = this.parent().expect("a program lies in a folder");
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    folder.join(binary)
}

/// A loopback address that was free a moment ago, for a listener that must keep its port over a
/// restart.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener
        .local_addr()
        .expect("a bound listener has an address")
}
