//! Claims on real databases: a SQLite file in a directory of its own, and a database of its own on
//! a PostgreSQL server which the claims share.

/// Makes of each claim one on SQLite and one on PostgreSQL.
macro_rules! on_each_database {
    ($($claim:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $claim() {
                    super::$claim(super::TestStore::open().await).await;
                }
            )+
        }

        mod on_postgres {
            $(
                #[tokio::test]
                async fn $claim() {
                    if let Some(test) = super::TestStore::open_on_postgres().await {
                        super::$claim(test).await;
                    }
                }
            )+
        }
    };
}

pub(crate) use on_each_database;

mod agent_selectors;
mod authorities;
mod bans;
mod bundle_updates;
mod configuration;
mod crls;
mod downstreams;
mod issuance;
mod issuers_tokens;
mod join_tokens;
mod opening;
mod replicas;
mod revocations;
mod server;

use std::path::Path;
use std::time::Duration;

use policy::{MeshNames, Resource};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;
use crate::config::PostgresServer;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// A store, and the directory that it goes with.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) config: StoreConfig,
    directory: TempDir,
}

impl Store {
    /// Writes wait until what is returned is dropped; of a store in a file.
    pub(crate) async fn hold_writes(&self) -> impl Sized + use<> {
        self.database.begin().await.unwrap()
    }
}

impl TestStore {
    /// In a file.
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.sqlite");
        Self::at(StorePlace::Sqlite(file), directory).await
    }

    /// On the server that the claims share; `None` where there is none.
    pub(crate) async fn open_on_postgres() -> Option<Self> {
        let place = StorePlace::Postgres(fresh_database()?);
        Some(Self::at(place, tempfile::tempdir().unwrap()).await)
    }

    async fn at(place: StorePlace, directory: TempDir) -> Self {
        let config = config(place);
        let store = Store::open(&config, NOW).await.unwrap();
        Self {
            store,
            config,
            directory,
        }
    }

    /// For what a claim writes beside the store.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> &Path {
        file_of(&self.config)
    }

    /// Runs SQL as somebody who has the database.
    pub(crate) async fn tamper(&self, sql: &str) -> Result<(), sqlx::Error> {
        tamper(&self.config, sql).await
    }

    /// All that the database holds.
    fn dump(&self) -> Vec<u8> {
        match &self.config.place {
            StorePlace::Sqlite(path) => std::fs::read(path).unwrap(),
            StorePlace::Postgres(server) => {
                let cluster = postgres_cluster::shared().unwrap();
                cluster.dump(&server.database).into_bytes()
            }
        }
    }

    /// Another replica on the same server.
    async fn second_replica(&self) -> Store {
        Store::open(&self.config, NOW).await.unwrap()
    }

    pub(crate) async fn drop_trigger(&self, trigger: &str, table: &str) -> Result<(), sqlx::Error> {
        self.tamper(&match self.config.place {
            StorePlace::Sqlite(_) => format!("DROP TRIGGER {trigger}"),
            StorePlace::Postgres(_) => format!("DROP TRIGGER {trigger} ON {table}"),
        })
        .await
    }
}

/// An empty database; `None` where there is no server.
pub(crate) fn fresh_database() -> Option<PostgresServer> {
    let database = postgres_cluster::shared()?.database();
    let socket = database.socket.to_str().unwrap();
    let (port, user) = (database.port, database.user);
    Some(PostgresServer::local(socket, port, &database.name, user))
}

pub(crate) fn mesh() -> MeshNames {
    MeshNames::new("corp.example".parse().unwrap(), IdTemplate::default())
}

pub(crate) fn workload(name: &str, uid: u32) -> Resource {
    resource(&format!(
        "apiVersion: countersign.dev/v1\nkind: Workload\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{selectors: {{unix: {{uid: {uid}}}}}}}"
    ))
}

pub(crate) fn service(name: &str) -> Resource {
    resource(&format!(
        "apiVersion: countersign.dev/v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{workloads: [shop/{name}], ports: [{{name: http, port: 80, protocol: http}}]}}"
    ))
}

fn resource(yaml: &str) -> Resource {
    policy::parse_documents(yaml).unwrap().remove(0)
}

fn config(place: StorePlace) -> StoreConfig {
    let MeshNames {
        trust_domain,
        template,
        ..
    } = mesh();
    StoreConfig {
        place,
        trust_domain,
        id_template: template,
    }
}

fn file_of(config: &StoreConfig) -> &Path {
    match &config.place {
        StorePlace::Sqlite(path) => path,
        StorePlace::Postgres(_) => panic!("it is on a server"),
    }
}

async fn tamper(config: &StoreConfig, sql: &str) -> Result<(), sqlx::Error> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
    match &config.place {
        StorePlace::Sqlite(path) => {
            let options = SqliteConnectOptions::new().filename(path);
            let mut connection = options.connect().await?;
            sql.execute(&mut connection).await?;
            connection.close().await
        }
        StorePlace::Postgres(server) => {
            let options = PgConnectOptions::new_without_pgpass()
                .socket(&server.host)
                .username(&server.user)
                .database(&server.database);
            let mut connection = options.connect().await?;
            sql.execute(&mut connection).await?;
            connection.close().await
        }
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
