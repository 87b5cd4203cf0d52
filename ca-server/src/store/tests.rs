//! Claims on a real SQLite file in a directory of its own.

mod authorities;
mod configuration;
mod issuance;
mod join_tokens;
mod opening;

use std::path::PathBuf;
use std::time::Duration;

use policy::{MeshNames, Resource};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

/// A store, and the directory that it goes with.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) config: StoreConfig,
    _directory: TempDir,
}

impl TestStore {
    pub(crate) async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path().join("ca.sqlite"));
        let store = Store::open(&config, NOW).await.unwrap();
        Self {
            store,
            config,
            _directory: directory,
        }
    }

    /// Runs SQL as somebody who has the file.
    async fn tamper(&self, sql: &str) -> Result<(), sqlx::Error> {
        tamper(&self.config, sql).await
    }
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

fn config(sqlite: PathBuf) -> StoreConfig {
    let MeshNames {
        trust_domain,
        template,
        ..
    } = mesh();
    StoreConfig {
        sqlite,
        trust_domain,
        id_template: template,
    }
}

async fn tamper(config: &StoreConfig, sql: &str) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(&config.sqlite);
    let mut connection = options.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await?;
    connection.close().await
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
