//! Claims about a PostgreSQL server that is reached over TLS, by a password.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use postgres_cluster::Cluster;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

const PASSWORD: &str = "correct horse";

/// A server that proves itself as `localhost`, and what its clients are told.
struct Server {
    cluster: Cluster,
    port: u16,
    directory: TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority();
        fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &authority).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let files = [
            ("server.crt", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ];
        let files = files.each_ref().map(|(name, pem)| (*name, pem.as_str()));
        let settings = ["listen_addresses = '127.0.0.1'", "ssl = on"];
        let cluster = Cluster::start(port, &settings, &files)?;
        Some(Self {
            cluster,
            port,
            directory,
        })
    }

    /// Opens an empty database with this password, trusting what is in `ca_file`.
    async fn open(&self, password: &str, ca_file: &str) -> Result<Store, OpenError> {
        let database = self.cluster.database();
        let role = format!("ca_{}", database.name);
        let make = format!(
            "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; ALTER DATABASE {} OWNER TO {role}",
            database.name
        );
        self.cluster.sql(&database, &make);
        let password_file = self.directory.path().join(format!("{role}.password"));
        fs::write(&password_file, format!("{password}\n")).unwrap();
        fs::set_permissions(&password_file, Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[postgres]\nhost = \"localhost\"\nport = {}\ndatabase = \"{}\"\nuser = \"{role}\"\n\
             password_file = \"{}\"\nca_file = \"{}\"\ntls = \"verify-full\"",
            self.port,
            database.name,
            password_file.display(),
            self.directory.path().join(ca_file).display()
        );
        Store::open(&config(toml::from_str(&text).unwrap()), NOW).await
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_is_told_no_password() {
    let Some(server) = Server::start() else {
        return;
    };
    let other = server.directory.path().join("other.pem");
    fs::write(&other, authority().pem()).unwrap();
    let error = server.open(PASSWORD, "other.pem").await.unwrap_err();
    let text = runtime::exit::one_line(&error);
    assert!(text.contains("invalid peer certificate"), "{text}");
}

#[tokio::test]
async fn only_the_right_password_opens_a_server_that_proves_itself() {
    let Some(server) = Server::start() else {
        return;
    };
    let refused = server.open("wrong horse", "ca.pem").await.unwrap_err();
    let text = runtime::exit::one_line(&refused);
    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("horse"), "{text}");
    let store = server.open(PASSWORD, "ca.pem").await.unwrap();
    assert_eq!(store.head().await.unwrap().number, 0);
}

#[tokio::test]
async fn a_password_that_others_can_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, PASSWORD).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let mut server = PostgresServer::local("/nowhere", 5432, "mesh", "ca");
    server.password_file = Some(file);
    let error = Store::open(&config(StorePlace::Postgres(server)), NOW).await;
    assert!(
        matches!(
            error,
            Err(OpenError::Password(runtime::FileError::Exposed {
                mode: 0o644,
                ..
            }))
        ),
        "{error:?}"
    );
}
