//! `[store]`: where what the CA remembers is kept, in a file or on a PostgreSQL server.
//!
//! Refuses a password anywhere but in a file of its own, and a server on another host whose name
//! its certificate does not prove.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// What one CA holds alone, or what its replicas share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub enum StorePlace {
    /// The SQLite file; its directory is the data directory. One CA only.
    Sqlite(PathBuf),
    /// Shared by as many replicas as there are.
    Postgres(PostgresServer),
}

/// A database of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresServer {
    /// A host name, an address, or the directory of a Unix socket.
    pub host: String,
    #[serde(default = "default_port")]
    pub port: u16,
    pub database: String,
    pub user: String,
    /// Holds the password and nothing else, readable by the owner only. Without it the server must
    /// know the user otherwise: by the socket's peer, or by a client certificate.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// PEM; certificates that the server's must lead to. Public authorities, if left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What is asked of the server's certificate; see [`Self::tls`].
    #[serde(default, rename = "tls")]
    asked: Option<PostgresTls>,
}

/// How the server proves that it is the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresTls {
    /// By a certificate for its host name.
    VerifyFull,
    /// By a certificate of `ca_file`, whatever its name.
    VerifyCa,
    /// Not at all: only on this host.
    Prefer,
}

/// Which rule `[store]` breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePlaceError {
    #[error("say where the store is: either `sqlite`, a file, or `postgres`, a server")]
    Nowhere,
    #[error("`sqlite` and `postgres` are both set; the store is in one place")]
    Twice,
    #[error(
        "postgres.tls: {0} is another host, which must prove that it is the server: use \
         `verify-full` or `verify-ca`"
    )]
    Unproven(String),
    #[error("postgres.tls: `verify-ca` trusts every certificate of `ca_file`, which is not set")]
    AnyAuthority,
}

impl StorePlace {
    /// The directory of the SQLite file.
    #[must_use]
    pub fn data_directory(&self) -> Option<PathBuf> {
        let Self::Sqlite(path) = self else {
            return None;
        };
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Some(parent.to_path_buf()),
            _ => Some(PathBuf::from(".")),
        }
    }
}

/// As errors and logs name it; no secret.
impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(server) => write!(
                f,
                "{} on {} port {}",
                server.database, server.host, server.port
            ),
        }
    }
}

impl PostgresServer {
    /// One that is reached without TLS or password: by a socket, or on loopback.
    #[must_use]
    pub fn local(host: &str, port: u16, database: &str, user: &str) -> Self {
        Self {
            host: host.to_owned(),
            port,
            database: database.to_owned(),
            user: user.to_owned(),
            password_file: None,
            ca_file: None,
            asked: None,
        }
    }

    /// As asked; otherwise `verify-full`, save on this host.
    #[must_use]
    pub fn tls(&self) -> PostgresTls {
        self.asked.unwrap_or_else(|| match self.is_here() {
            true => PostgresTls::Prefer,
            false => PostgresTls::VerifyFull,
        })
    }

    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn is_here(&self) -> bool {
        let loopback = |address: IpAddr| address.is_loopback();
        self.is_socket() || self.host == "localhost" || self.host.parse().is_ok_and(loopback)
    }

    fn check(&self) -> Result<(), StorePlaceError> {
        match self.tls() {
            PostgresTls::Prefer if !self.is_here() => {
                Err(StorePlaceError::Unproven(self.host.clone()))
            }
            PostgresTls::VerifyCa if self.ca_file.is_none() => Err(StorePlaceError::AnyAuthority),
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    sqlite: Option<PathBuf>,
    postgres: Option<PostgresServer>,
}

impl TryFrom<Raw> for StorePlace {
    type Error = StorePlaceError;

    fn try_from(raw: Raw) -> Result<Self, StorePlaceError> {
        match (raw.sqlite, raw.postgres) {
            (Some(path), None) => Ok(Self::Sqlite(path)),
            (None, Some(server)) => {
                server.check()?;
                Ok(Self::Postgres(server))
            }
            (None, None) => Err(StorePlaceError::Nowhere),
            (Some(_), Some(_)) => Err(StorePlaceError::Twice),
        }
    }
}

fn default_port() -> u16 {
    5432
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StorePlace, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    fn server(more: &str) -> String {
        format!("[postgres]\ndatabase = \"mesh\"\nuser = \"ca\"\n{more}")
    }

    #[track_caller]
    fn refused(text: &str, expected: &StorePlaceError) {
        assert_eq!(parse(text).unwrap_err(), expected.to_string());
    }

    #[test]
    fn a_store_in_two_places_or_none_is_refused() {
        refused("", &StorePlaceError::Nowhere);
        let both = format!("sqlite = \"a\"\n{}", server("host = \"/run/postgresql\""));
        refused(&both, &StorePlaceError::Twice);
    }

    #[test]
    fn another_host_that_proves_nothing_is_refused() {
        let host = "db.corp.example";
        let text = server(&format!("host = \"{host}\"\ntls = \"prefer\""));
        refused(&text, &StorePlaceError::Unproven(host.to_owned()));
    }

    #[test]
    fn any_public_authority_does_not_stand_for_the_servers_own() {
        let text = server("host = \"10.0.0.1\"\ntls = \"verify-ca\"");
        refused(&text, &StorePlaceError::AnyAuthority);
    }

    #[test]
    fn a_password_in_the_configuration_is_refused() {
        let text = server("host = \"localhost\"\npassword = \"secret\"");
        let error = parse(&text).unwrap_err();
        assert!(error.contains("unknown field `password`"), "{error}");
    }

    #[test]
    fn only_this_host_may_prove_nothing() {
        for (host, expected) in [
            ("db.corp.example", PostgresTls::VerifyFull),
            ("192.0.2.1", PostgresTls::VerifyFull),
            ("localhost", PostgresTls::Prefer),
            ("::1", PostgresTls::Prefer),
            ("/run/postgresql", PostgresTls::Prefer),
        ] {
            let Ok(StorePlace::Postgres(server)) = parse(&server(&format!("host = \"{host}\"")))
            else {
                panic!("{host} was refused");
            };
            assert_eq!(server.tls(), expected, "{host}");
        }
    }
}
