//! Several CA processes on one PostgreSQL database, as an operator runs them: each with a name and
//! ports of its own, all with one key-encryption key.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use futures_util::future::join_all;
use postgres_cluster::Database;
use runtime::files::write_private;
use tempfile::TempDir;

use crate::operator::{CaProcess, TRUST_DOMAIN};
use crate::processes::{Process, free_address};
use crate::waiting::eventually;

/// The default.
const SPOOL_MAX_AGE: &str = "1h";

/// Where a replica listens.
#[derive(Clone, Copy, Debug)]
struct Addresses {
    web: SocketAddr,
    agents: SocketAddr,
}

/// What the replicas share.
#[derive(Debug)]
pub struct Replicas {
    shared: TempDir,
    database: Database,
    /// The keys of `[store.postgres]`.
    store: String,
    addresses: Vec<Addresses>,
    /// Those whom the database knows the replicas by.
    roles: Vec<String>,
    lifetimes: String,
    /// How long renewals go on without the database.
    spool_max_age: &'static str,
}

impl Replicas {
    /// `count` replicas on an empty database, started at once. `None` where there is no PostgreSQL.
    pub async fn start(count: usize) -> Option<(Self, Vec<CaProcess>)> {
        let database = postgres_cluster::shared()?.database();
        Some(Self::start_on(database, count, "").await)
    }

    /// As [`Self::start_on`]; each replica comes to the database in a role of its own, so that the
    /// server can tell who does what. Nobody is taken to live without its knowledge for long, so
    /// that a rotation ends with the leaves.
    pub async fn start_as(
        database: Database,
        roles: &[&str],
        lifetimes: &str,
    ) -> (Self, Vec<CaProcess>) {
        let shared = tempfile::tempdir().expect("a temporary directory");
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        let settings = (lifetimes, "1s");
        Self::start_at(shared, of_socket(&database), &database, roles, settings).await
    }

    /// On an empty database of any server, with these `[lifetimes]`, and with what sections follow.
    pub async fn start_on(
        database: Database,
        count: usize,
        lifetimes: &str,
    ) -> (Self, Vec<CaProcess>) {
        let shared = tempfile::tempdir().expect("a temporary directory");
        let roles = owner(&database, count);
        let settings = (lifetimes, SPOOL_MAX_AGE);
        Self::start_at(shared, of_socket(&database), &database, roles, settings).await
    }

    /// As [`Self::start_on`]; the server is reached at this address, with this password.
    pub async fn start_over(
        database: &Database,
        server: SocketAddr,
        password: &str,
        count: usize,
    ) -> (Self, Vec<CaProcess>) {
        Self::start_over_with(database, server, password, (count, "")).await
    }

    /// As [`Self::start_over`], with these `[lifetimes]`.
    pub async fn start_over_with(
        database: &Database,
        server: SocketAddr,
        password: &str,
        (count, lifetimes): (usize, &str),
    ) -> (Self, Vec<CaProcess>) {
        let shared = tempfile::tempdir().expect("a temporary directory");
        let file = shared.path().join("password");
        write_private(&file, password.as_bytes()).expect("the directory is ours");
        let (ip, port) = (server.ip(), server.port());
        let store = format!(
            "host = \"{ip}\"\nport = {port}\npassword_file = \"{}\"",
            file.display()
        );
        let settings = (lifetimes, SPOOL_MAX_AGE);
        Self::start_at(shared, store, database, owner(database, count), settings).await
    }

    async fn start_at(
        shared: TempDir,
        store: String,
        database: &Database,
        roles: Vec<String>,
        (lifetimes, spool_max_age): (&str, &'static str),
    ) -> (Self, Vec<CaProcess>) {
        let count = roles.len();
        let addresses = (0..count).map(|_| Addresses {
            web: free_address(),
            agents: free_address(),
        });
        let replicas = Self {
            shared,
            database: database.clone(),
            store: in_database(&store, database),
            addresses: addresses.collect(),
            roles,
            lifetimes: lifetimes.to_owned(),
            spool_max_age,
        };
        let starting = (0..count).map(|index| replicas.launch(index));
        let running = join_all(starting).await;
        (replicas, running)
    }

    /// Another process with the configuration and the credential of a replica that has ended.
    pub async fn restart(&self, index: usize, environment: &[(&str, &str)]) -> CaProcess {
        let directory = tempfile::tempdir().expect("a temporary directory");
        self.give_credential(directory.path(), self.addresses[index].web)
            .await;
        CaProcess::restart_among(directory, &self.configuration(index), environment).await
    }

    /// Replicas that are started from now on use this database.
    pub fn move_to(&mut self, database: &Database) {
        self.store = in_database(&of_socket(database), database);
        self.database = database.clone();
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What the one with this index says when it does not start.
    pub async fn refused(&self, index: usize) -> String {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = self.configuration(index);
        let mut process = Process::start("countersign-ca", directory.path(), "ca", &config);
        let status = process.ended().await;
        assert!(!status.success(), "it has served");
        process.said()
    }

    /// The one with this index, which has ended.
    pub async fn launch(&self, index: usize) -> CaProcess {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = self.configuration(index);
        let process = Process::start("countersign-ca", directory.path(), "ca", &config);
        self.give_credential(directory.path(), self.addresses[index].web)
            .await;
        let agents = self.addresses[index].agents;
        CaProcess::answering(process, directory, agents, config).await
    }

    /// The one with this index, which has ended, with another configuration.
    pub async fn launch_as(
        &self,
        index: usize,
        change: impl FnOnce(String) -> String,
    ) -> CaProcess {
        let directory = tempfile::tempdir().expect("a temporary directory");
        self.give_credential(directory.path(), self.addresses[index].web)
            .await;
        let config = change(self.configuration(index));
        CaProcess::restart_in(directory, &config).await
    }

    /// The credential goes on with the roots that this replica's operator has heard of.
    pub fn take_credential_of(&self, replica: &CaProcess) {
        let heard = fs::read(replica.directory().join("admin.toml"));
        let made = self.shared.path().join("admin.toml");
        write_private(made, &heard.expect("it has one")).expect("the directory is ours");
    }

    /// The one credential of the mesh, for this replica's address.
    async fn give_credential(&self, directory: &Path, web: SocketAddr) {
        let made = self.shared.path().join("admin.toml");
        let text = eventually("a replica writes the credential", || async {
            fs::read_to_string(&made).ok()
        });
        let mut credential: toml::Table = text.await.parse().expect("it is TOML");
        let urls = vec![toml::Value::from(format!("https://{web}"))];
        credential.insert("urls".to_owned(), urls.into());
        let path = directory.join("admin.toml");
        write_private(path, credential.to_string().as_bytes()).expect("the directory is ours");
    }

    fn configuration(&self, index: usize) -> String {
        let Addresses { web, agents } = self.addresses[index];
        let all: Vec<_> = self.addresses.iter().map(|each| each.agents).collect();
        let all: Vec<_> = all.iter().map(|agents| format!("\"{agents}\"")).collect();
        let shared = self.shared.path().display();
        let (store, role) = (&self.store, &self.roles[index]);
        format!(
            r#"trust_domain = "{TRUST_DOMAIN}"
replica = "ca-{number}"

[store.postgres]
{store}
user = "{role}"

[keys]
kek_file = "{shared}/keys/kek"

[listen]
web = "{web}"
agents = "{agents}"

[advertise]
agents = [{all}]

[spool]
file = "{shared}/spool-{number}"
size_mib = 1
max_age = "{max_age}"

[lifetimes]
{lifetimes}

[admin]
credential_file = "{shared}/admin.toml"

[log]
level = "warn"
"#,
            number = index + 1,
            max_age = self.spool_max_age,
            lifetimes = self.lifetimes,
            all = all.join(", "),
        )
    }
}

fn of_socket(Database { socket, port, .. }: &Database) -> String {
    format!("host = \"{}\"\nport = {port}", socket.display())
}

fn in_database(store: &str, Database { name, .. }: &Database) -> String {
    format!("{store}\ndatabase = \"{name}\"")
}

/// All replicas come as the one who made the database.
fn owner(database: &Database, count: usize) -> Vec<String> {
    vec![database.user.to_owned(); count]
}
