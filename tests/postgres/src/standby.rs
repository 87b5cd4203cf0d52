//! A second server that follows the first, and can be put in its place.

use std::net::SocketAddr;

use crate::installed::{self, Installed};
use crate::{Cluster, Database, USER};

impl Cluster {
    /// A standby of this server, listening on `port` with these settings: it takes up what the
    /// server does over a connection to `primary`, as [`USER`] with this password. Nobody waits for
    /// it, as for any standby that is not synchronous.
    ///
    /// # Panics
    /// The server lets nobody copy it, or the standby does not start.
    #[must_use]
    pub fn standby(
        &self,
        port: u16,
        settings: &[&str],
        (primary, password): (SocketAddr, &str),
    ) -> Self {
        let installed = Installed::find().expect("this server's binaries are installed");
        let directory = installed.directory();
        let data = directory.path().join("data");
        let mut copy = installed.command(installed.program("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .args(["-p", &self.port.to_string(), "-U", USER, "-h"])
            .arg(self.directory.path())
            .arg("-D")
            .arg(&data);
        installed::output_of(&mut copy);
        let mut standby = Self::in_directory(installed, directory, port);
        let follow = format!(
            "primary_conninfo = 'host={} port={} user={USER} password=''{password}'''",
            primary.ip(),
            primary.port()
        );
        let settings: Vec<_> = settings.iter().copied().chain([follow.as_str()]).collect();
        standby.configure(&settings, &[("standby.signal", "")]);
        standby.resume();
        standby
    }

    /// Whether this standby has taken up all that `primary` has done so far.
    ///
    /// # Panics
    /// One of them is gone.
    #[must_use]
    pub fn is_level_with(&self, primary: &Self, database: &Database) -> bool {
        let done = primary.sql(database, "SELECT pg_current_wal_lsn()");
        let level = format!("SELECT pg_last_wal_replay_lsn() >= '{done}'::pg_lsn");
        self.sql(database, &level) == "t"
    }

    /// The standby becomes a server that is written to, with what it has.
    ///
    /// # Panics
    /// It is none, or does not become one.
    pub fn promote(&self, database: &Database) {
        let promoted = self.sql(database, "SELECT pg_promote()");
        assert_eq!(promoted, "t", "the standby was not promoted in time");
    }
}
