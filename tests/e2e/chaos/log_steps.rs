//! Who makes the transparency log grow, as the database sees it; and a way to hold one who is about
//! to.

use mesh_tests::waiting::eventually;
use postgres_cluster::{Cluster, Database};
use tokio::task::{JoinSet, spawn_blocking};

use super::gate::ROLES;

/// A try counts although it is refused: a sequence is not rolled back.
const INSTALL: &str = r"
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE SEQUENCE chaos.tries_ca_1;
CREATE SEQUENCE chaos.tries_ca_2;
CREATE TABLE chaos.steps (made_by TEXT, from_size BIGINT UNIQUE, to_size BIGINT UNIQUE);
CREATE FUNCTION chaos.tried() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('chaos.tries_' || current_user);
    RETURN NULL;
END $$;
CREATE FUNCTION chaos.made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.steps VALUES (current_user, OLD.size, NEW.size);
    RETURN NULL;
END $$;
CREATE TRIGGER tried BEFORE UPDATE OF size ON log_state
FOR EACH STATEMENT EXECUTE FUNCTION chaos.tried();
CREATE TRIGGER made AFTER UPDATE OF size ON log_state
FOR EACH ROW EXECUTE FUNCTION chaos.made();
CREATE TABLE chaos.unlocked (done BOOLEAN);
";
/// What each step begins with is what it reads of the tiles.
const LOCK: &str = "DO $$ BEGIN
    LOCK TABLE log_tiles IN ACCESS EXCLUSIVE MODE;
    WHILE NOT EXISTS (SELECT FROM chaos.unlocked) LOOP PERFORM pg_sleep(0.005); END LOOP;
END $$";
const LOCKED: &str = "SELECT count(*) FROM pg_locks
    WHERE relation = 'log_tiles'::regclass AND mode = 'AccessExclusiveLock' AND granted";
const WAITS: &str = r"SELECT usename FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE relation = 'log_tiles'::regclass AND NOT granted AND usename LIKE 'ca\_%'";

/// Of one database, which some replicas use.
#[derive(Debug)]
pub(super) struct LogSteps {
    cluster: &'static Cluster,
    database: Database,
}

/// Nobody begins a step until this is opened.
#[derive(Debug)]
pub(super) struct LockedTiles<'a> {
    steps: &'a LogSteps,
    session: JoinSet<String>,
}

impl LogSteps {
    /// Counts from now on, once there is a log.
    pub(super) async fn count(cluster: &'static Cluster, database: &Database) -> Self {
        let steps = Self {
            cluster,
            database: database.clone(),
        };
        steps.sql(INSTALL);
        eventually("the log has begun", || async {
            (steps.number("SELECT size FROM log_state") > 0).then_some(())
        })
        .await;
        steps
    }

    pub(super) async fn lock(&self) -> LockedTiles<'_> {
        let (cluster, database) = (self.cluster, self.database.clone());
        let mut session = JoinSet::new();
        session.spawn(async move {
            let lock = spawn_blocking(move || cluster.sql(&database, LOCK));
            lock.await.expect("the server answers")
        });
        eventually("the table is locked", || async {
            (self.number(LOCKED) > 0).then_some(())
        })
        .await;
        LockedTiles {
            steps: self,
            session,
        }
    }

    /// Steps that this replica has tried to make.
    pub(super) fn tried_by(&self, replica: usize) -> u64 {
        let role = ROLES[replica];
        self.number(&format!(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM chaos.tries_{role}"
        ))
    }

    /// Steps that it has made.
    pub(super) fn made_by(&self, replica: usize) -> u64 {
        let role = ROLES[replica];
        self.number(&format!(
            "SELECT count(*) FROM chaos.steps WHERE made_by = '{role}'"
        ))
    }

    /// # Panics
    /// A step did not begin where the one before had ended.
    pub(super) fn follow_each_other(&self) {
        let gaps = "SELECT count(*) FROM chaos.steps AS step
            WHERE from_size <> (SELECT min(from_size) FROM chaos.steps)
              AND from_size NOT IN (SELECT to_size FROM chaos.steps)";
        assert_eq!(self.number(gaps), 0);
    }

    /// Returns when each record is a leaf.
    pub(super) async fn cover_all(&self) {
        cover_all(self.cluster, &self.database).await;
    }

    fn number(&self, sql: &str) -> u64 {
        self.sql(sql).parse().expect("a number")
    }

    fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.database, sql)
    }
}

impl LockedTiles<'_> {
    /// The replica that has begun a step, and waits.
    pub(super) async fn waited_for(&self) -> usize {
        eventually("a replica begins a step", || async {
            let role = self.steps.sql(WAITS);
            ROLES.iter().position(|it| *it == role)
        })
        .await
    }

    pub(super) async fn unlock(mut self) {
        self.steps.sql("INSERT INTO chaos.unlocked VALUES (true)");
        while self.session.join_next().await.is_some() {}
    }
}

/// Returns when each record in this database is a leaf.
pub(super) async fn cover_all(cluster: &Cluster, database: &Database) {
    const MISSING: &str = "SELECT count(*) FROM issued WHERE NOT EXISTS (
        SELECT FROM log_runs WHERE sequence BETWEEN first_sequence AND last_sequence)";
    eventually("each record is a leaf", || async {
        (cluster.sql(database, MISSING) == "0").then_some(())
    })
    .await;
}
