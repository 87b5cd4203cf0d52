//! A gate in the database: it holds every step of a rotation in the middle of its transaction, until
//! the claim lets it pass, and says which replica makes it. So a claim acts at a known point, and
//! waits for none by time.

use mesh_tests::replicas::Replicas;
use postgres_cluster::{Cluster, Database};
use tokio::task::spawn_blocking;

/// Those whom the database knows the replicas by.
pub(super) const ROLES: [&str; 3] = ["ca_1", "ca_2", "ca_3"];

/// Superusers, so that either may have made the tables that both use.
const MAKE_ROLE: &str = "DO $$ BEGIN CREATE ROLE $role LOGIN SUPERUSER;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";

/// A state of the roots is told by the phases of all, the oldest first; `!` is a taint.
const INSTALL: &str = r"
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE chaos.passed (mark TEXT PRIMARY KEY);
CREATE FUNCTION chaos.mark(json TEXT) RETURNS TEXT LANGUAGE sql AS $$
    SELECT string_agg(
        (member->>'phase') || CASE jsonb_typeof(member->'taint') WHEN 'object' THEN '!' ELSE '' END,
        ' ' ORDER BY place)
    FROM jsonb_array_elements(json::jsonb->'members') WITH ORDINALITY AS found(member, place)
$$;
CREATE FUNCTION chaos.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM chaos.passed WHERE mark IN ('all', chaos.mark(OLD.json))) LOOP
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER hold BEFORE UPDATE ON authority_states
FOR EACH ROW WHEN (OLD.purpose = 'x509-root') EXECUTE FUNCTION chaos.hold();
CREATE FUNCTION chaos.state() RETURNS TEXT LANGUAGE sql AS $$
    SELECT chaos.mark(json) FROM authority_states WHERE purpose = 'x509-root'
$$;
CREATE FUNCTION chaos.next() RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
    state TEXT;
    holder TEXT;
BEGIN
    FOR look IN 1..3000 LOOP
        state := chaos.state();
        IF state ~ '^(removed!? )+active$' THEN
            RETURN state;
        END IF;
        PERFORM pg_stat_clear_snapshot();
        SELECT usename INTO holder FROM pg_stat_activity
        WHERE datname = current_database() AND usename LIKE 'ca\_%' AND wait_event = 'PgSleep';
        IF holder IS NOT NULL AND NOT EXISTS (SELECT FROM chaos.passed WHERE mark = state) THEN
            RETURN state || '|' || holder;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RAISE EXCEPTION 'nobody goes on from %', state;
END $$;
CREATE FUNCTION chaos.left_behind(past TEXT) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    FOR look IN 1..3000 LOOP
        IF chaos.state() <> past THEN
            RETURN true;
        END IF;
        PERFORM pg_sleep(0.01);
    END LOOP;
    RAISE EXCEPTION 'nobody goes on from %', past;
END $$;
";

/// Where a rotation stands.
#[derive(Debug)]
pub(super) enum Held {
    /// The replica with this index is in the middle of the step that leads out of this state.
    Step { state: String, by: usize },
    /// It has ended.
    Settled,
}

/// Of one database, which some replicas use.
#[derive(Debug)]
pub(super) struct Gate {
    cluster: &'static Cluster,
    database: Database,
}

impl Gate {
    /// Roles of their own for the replicas.
    pub(super) fn make_roles(cluster: &Cluster, database: &Database) {
        for role in ROLES {
            cluster.sql(database, &MAKE_ROLE.replace("$role", role));
        }
    }

    /// Holds from now on.
    pub(super) fn close(cluster: &'static Cluster, mesh: &Replicas) -> Self {
        let database = mesh.database().clone();
        cluster.sql(&database, INSTALL);
        Self { cluster, database }
    }

    /// What is held next.
    pub(super) async fn next(&self) -> Held {
        let found = self.ask("SELECT chaos.next()".to_owned()).await;
        match found.split_once('|') {
            Some((state, role)) => Held::Step {
                state: state.to_owned(),
                by: ROLES
                    .iter()
                    .position(|it| *it == role)
                    .expect("one of ours"),
            },
            None => Held::Settled,
        }
    }

    /// Where the roots stand.
    pub(super) async fn state(&self) -> String {
        self.ask("SELECT chaos.state()".to_owned()).await
    }

    /// Lets the step out of this state pass.
    pub(super) async fn open(&self, state: &str) {
        let pass = format!("INSERT INTO chaos.passed VALUES ('{state}')");
        self.ask(pass).await;
    }

    /// Lets every step pass from now on.
    pub(super) async fn open_for_good(&self) {
        self.open("all").await;
    }

    /// Returns when somebody has made the step out of this state.
    pub(super) async fn left(&self, state: &str) {
        self.ask(format!("SELECT chaos.left_behind('{state}')"))
            .await;
    }

    async fn ask(&self, sql: String) -> String {
        let (cluster, database) = (self.cluster, self.database.clone());
        let answer = spawn_blocking(move || cluster.sql(&database, &sql));
        answer.await.expect("the server answers")
    }
}
