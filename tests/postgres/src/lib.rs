//! Private PostgreSQL servers for tests: Debian's binaries, a directory of its own, nobody else's
//! data, gone when the test binary ends in whatever way.
//!
//! Invariant: the server never runs as root, waits for the disk as one in production does, and is
//! reached through a socket in a directory that only its owner (and root) can enter. Where
//! PostgreSQL is missing a claim fails under CI, and is skipped aloud elsewhere.

mod installed;
mod server;
mod standby;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use installed::Installed;
use server::Server;

/// Who made the cluster, and may do everything in it.
pub const USER: &str = "countersign";
const PORT: u16 = 5432;

/// The one server that the claims of a test binary share.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    SHARED
        .get_or_init(|| Cluster::start(PORT, &[], &[]))
        .as_ref()
}

/// A server, and what it stores.
#[derive(Debug)]
pub struct Cluster {
    /// Ended before its directory goes.
    server: Option<Server>,
    directory: TempDir,
    installed: Installed,
    /// Names the socket, and is listened on if the settings give an address.
    port: u16,
    databases: AtomicU32,
}

/// Where one database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The directory of the server's socket.
    pub socket: PathBuf,
    pub port: u16,
    pub name: String,
    pub user: &'static str,
}

impl Cluster {
    /// A server of its own, for a claim that stops it or needs settings, each as in
    /// `postgresql.conf`, and files beside that one, which only the server can read. `None` where
    /// PostgreSQL is not installed.
    ///
    /// # Panics
    /// The server does not start; or it is not installed, under CI.
    pub fn start(port: u16, settings: &[&str], files: &[(&str, &str)]) -> Option<Self> {
        let installed = Installed::find()?;
        let directory = installed.directory();
        installed.initialize(&directory.path().join("data"));
        let mut cluster = Self::in_directory(installed, directory, port);
        cluster.configure(settings, files);
        cluster.resume();
        Some(cluster)
    }

    fn in_directory(installed: Installed, directory: TempDir, port: u16) -> Self {
        Self {
            installed,
            directory,
            server: None,
            port,
            databases: AtomicU32::new(0),
        }
    }

    /// An empty database that nobody else uses.
    ///
    /// # Panics
    /// The server refuses.
    pub fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.run("createdb", &["--template=template0", &name]);
        Database {
            socket: self.directory.path().to_owned(),
            port: self.port,
            name,
            user: USER,
        }
    }

    /// Runs SQL as the owner of everything.
    ///
    /// # Panics
    /// The server refuses.
    pub fn sql(&self, database: &Database, sql: &str) -> String {
        self.run(
            "psql",
            &[
                "-qtAX",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                &database.name,
                "-c",
                sql,
            ],
        )
    }

    /// Everything in a database, as SQL that would make it again.
    ///
    /// # Panics
    /// The server refuses.
    pub fn dump(&self, database: &str) -> String {
        let dump = self.run("pg_dump", &["--schema-only", database]);
        let data = self.run("pg_dump", &["--data-only", "--inserts", database]);
        // What starts with a backslash holds a random word of this dump.
        let lines = dump.lines().chain(data.lines());
        lines
            .filter(|line| !line.starts_with('\\'))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// A back-up of a database, restored into an empty one, as an operator would.
    ///
    /// # Panics
    /// The server refuses.
    pub fn restored(&self, database: &str) -> Database {
        let file = self.directory.path().join(format!("{database}.dump"));
        let file = file.to_str().expect("a temporary directory's name is text");
        self.run("pg_dump", &["--format=custom", "--file", file, database]);
        let fresh = self.database();
        let into = ["--exit-on-error", "--dbname", &fresh.name, file];
        self.run("pg_restore", &into);
        fresh
    }

    /// Ends the server as a power failure would, data kept.
    pub fn halt(&mut self) {
        self.server = None;
    }

    /// Starts the server on the data that it had.
    ///
    /// # Panics
    /// The server does not start.
    pub fn resume(&mut self) {
        self.server = Some(Server::start(&self.installed, self.directory.path()));
    }

    fn configure(&self, settings: &[&str], files: &[(&str, &str)]) {
        let data = self.directory.path().join("data");
        let own = format!(
            "listen_addresses = ''\nport = {}\nunix_socket_directories = '{}'\n\
             max_connections = 200\nshared_buffers = 16MB\n{}\n",
            self.port,
            self.directory.path().display(),
            settings.join("\n")
        );
        for (name, content) in files
            .iter()
            .chain([&("postgresql.auto.conf", own.as_str())])
        {
            self.installed.write(&data.join(name), content);
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.installed.program(program));
        command
            .arg("-h")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string(), "-U", USER])
            .args(arguments);
        installed::output_of(&mut command)
    }
}
