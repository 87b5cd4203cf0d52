//! Configuration writes on PostgreSQL, beside the commits that the server makes of one row each.

use anyhow::{Result, ensure};
use postgres_cluster::Cluster;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figure::Figure;
use crate::operator::Operator;

const WRITERS: usize = 8;
const WRITES_EACH: usize = 250;
const COMMITS: u32 = 2_000;

pub(super) async fn run(operator: &Operator, cluster: &Cluster) -> Result<Option<Figure>> {
    let limit = bare_commits(cluster);
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut line = operator.line().await?;
        writers.spawn(async move {
            for write in 0..WRITES_EACH {
                let object = json!({
                    "apiVersion": "countersign.dev/v1",
                    "kind": "Workload",
                    "metadata": {"namespace": format!("n{writer}"), "name": format!("w{write}")},
                    "spec": {"selectors": {"unix": {"uid": 1000}}},
                });
                let changeset = json!({"reason": "bench", "apply": [object]});
                let status = line.post("/v1/changesets", &changeset).await?;
                ensure!(status.is_success(), "a write was refused: {status}");
            }
            Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    let rate = (WRITERS * WRITES_EACH) as f64 / started.elapsed().as_secs_f64();
    let figure = Figure::at_least("store.postgres.config_writes_per_s", rate, "/s", 200.0);
    Ok(Some(figure.with_limit(limit)))
}

/// One after the other, without a round trip.
fn bare_commits(cluster: &Cluster) -> f64 {
    let database = cluster.database();
    cluster.sql(&database, "CREATE TABLE bare (number BIGINT PRIMARY KEY)");
    let started = Instant::now();
    let commits = format!(
        "DO $$ BEGIN FOR number IN 1..{COMMITS} LOOP
             INSERT INTO bare VALUES (number); COMMIT;
         END LOOP; END $$"
    );
    cluster.sql(&database, &commits);
    f64::from(COMMITS) / started.elapsed().as_secs_f64()
}
