//! A database of a PostgreSQL server, which several replicas share.
//!
//! Invariant: a commit that returns is on the server's disk, whatever the server's default is. The
//! password comes from a file, and a server on another host must prove its name; a standby, which
//! cannot write, is refused.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crypto::digest::Sha256;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction};

use super::schema;
use crate::config::{PostgresServer, PostgresTls};
use crate::store::{OpenError, StoreError, StorePlace};

/// What our advisory locks are told apart by from those of others in the same database.
pub(super) const LOCKS: i32 = 0x4353_4743;

/// Of the names of replicas; a class of its own beside [`LOCKS`].
const NAMES: i32 = LOCKS + 1;

const CONNECTIONS: u32 = 10;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was used so lately is taken without asking the server whether it lives.
const FRESH: Duration = Duration::from_secs(1);
/// 14 is the oldest that its makers still maintain.
const OLDEST_VERSION: i32 = 140_000;

#[derive(Debug)]
pub(in crate::store) struct PostgresDatabase {
    pool: PgPool,
    /// For the one connection that listens.
    options: Box<PgConnectOptions>,
    min_reader: AtomicI64,
}

impl PostgresDatabase {
    pub(super) async fn open(server: &PostgresServer) -> Result<Self, OpenError> {
        let place = StorePlace::Postgres(server.clone());
        let database = |source| OpenError::database(&place, source);
        let options = options(server)?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(|connection, usage| {
                Box::pin(async move {
                    if usage.idle_for > FRESH {
                        sqlx::Connection::ping(connection).await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(|connection, _| Box::pin(require_durable(connection)))
            .connect_with(options.clone())
            .await
            .map_err(database)?;
        require_primary(&pool, &place).await?;
        schema::migrate_postgres(&pool, &place).await?;
        Ok(Self {
            pool,
            options: Box::new(options),
            min_reader: AtomicI64::new(0),
        })
    }

    pub(super) fn note_min_reader(&self, min_reader: i64) {
        let before = self.min_reader.swap(min_reader, Ordering::AcqRel);
        if min_reader > schema::READS && before <= schema::READS {
            tracing::error!(
                alarm = "store-too-new",
                min_reader,
                reads = schema::READS,
                "the store was migrated for newer builds only: this replica writes nothing any more"
            );
        }
    }

    /// Refuses to write what a newer build would misread.
    pub(super) fn require_readable(&self) -> Result<(), StoreError> {
        let min_reader = self.min_reader.load(Ordering::Acquire);
        match min_reader > schema::READS {
            true => Err(StoreError::TooNew {
                min_reader,
                reads: schema::READS,
            }),
            false => Ok(()),
        }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection of its own, on which the server tells of what was committed, and which has
    /// `name` for as long as it lives. `None`: another one has it.
    pub(in crate::store) async fn listen(
        &self,
        channels: &[&str],
        name: &str,
    ) -> Result<Option<PgListener>, sqlx::Error> {
        // Never one that was listened on before: it may be broken half-way.
        let alone = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with((*self.options).clone());
        let mut listener = PgListener::connect_with(&alone).await?;
        listener.eager_reconnect(false);
        let digest = Sha256::of(name.as_bytes());
        let [a, b, c, d, ..] = *digest.as_bytes();
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1, $2)")
            .bind(NAMES)
            .bind(i32::from_be_bytes([a, b, c, d]))
            .fetch_one(&mut listener)
            .await?;
        if !taken {
            return Ok(None);
        }
        listener.listen_all(channels.iter().copied()).await?;
        Ok(Some(listener))
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        self.pool.begin().await
    }

    pub(super) async fn snapshot(
        &self,
        limit: Duration,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = self.pool.begin_with(begin).await?;
        let limit = format!("SET LOCAL statement_timeout = {}", limit.as_millis());
        sqlx::raw_sql(AssertSqlSafe(limit))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

fn options(server: &PostgresServer) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .database(&server.database)
        .application_name("countersign-ca")
        .ssl_mode(match server.tls() {
            PostgresTls::VerifyFull => PgSslMode::VerifyFull,
            PostgresTls::VerifyCa => PgSslMode::VerifyCa,
            PostgresTls::Prefer => PgSslMode::Prefer,
        })
        .options([
            ("statement_timeout", "9s"),
            ("lock_timeout", "5s"),
            // A replica that stands still in the middle of a write holds others up no longer.
            ("idle_in_transaction_session_timeout", "8s"),
            // Of a table that was never analyzed the planner thinks so much that it compiles: 60 ms
            // for three rows.
            ("jit", "off"),
            // A replica whose host is gone lets go of its name and its locks.
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ]);
    let options = match server.is_socket() {
        true => options.socket(&server.host),
        false => options,
    };
    let options = match &server.ca_file {
        Some(file) => options.ssl_root_cert(file),
        None => options,
    };
    let Some(file) = &server.password_file else {
        return Ok(options);
    };
    let password = runtime::files::read_private(file).map_err(OpenError::Password)?;
    let password = std::str::from_utf8(&password)
        .map_err(|_| OpenError::PasswordNotText { path: file.clone() })?;
    Ok(options.password(password.trim_end_matches(['\r', '\n'])))
}

/// Where the server's default is not to wait for its disk, this session waits all the same.
async fn require_durable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') = 'off'",
    )
    .execute(connection)
    .await
    .map(drop)
}

async fn require_primary(pool: &PgPool, place: &StorePlace) -> Result<(), OpenError> {
    let database = |source| OpenError::database(place, source);
    let row = sqlx::query(
        "SELECT pg_is_in_recovery() AS standby,
                current_setting('server_version_num')::int AS version,
                current_setting('fsync') = 'off' AS forgetful",
    )
    .fetch_one(pool)
    .await
    .map_err(database)?;
    let version: i32 = row.try_get("version").map_err(database)?;
    if version < OLDEST_VERSION {
        return Err(OpenError::OldServer {
            store: place.to_string(),
            version: version / 10_000,
            oldest: OLDEST_VERSION / 10_000,
        });
    }
    if row.try_get("standby").map_err(database)? {
        return Err(OpenError::Standby {
            store: place.to_string(),
        });
    }
    if row.try_get("forgetful").map_err(database)? {
        tracing::warn!(
            store = %place,
            "this server has fsync off: after a crash, issued certificates may be without a record"
        );
    }
    Ok(())
}
