//! Replicas of one mesh: real processes on one real PostgreSQL.

use std::collections::BTreeSet;

use mesh_tests::operator::CaProcess;
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Joined, Line, join, key_and_csr, verified};
use mesh_tests::waiting::eventually;
use proto::agent::v1::issue_result::Result as Issued;
use runtime::Clock;

const AGENT: &str = "spiffe://mesh.test/countersign/agent/join-token/web-7";
const EVERY_TABLE_GROWS: &str = "DO $$ DECLARE it TEXT; BEGIN
    FOR it IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN added_later TEXT', it);
    END LOOP; END $$";
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";

#[tokio::test]
async fn replicas_that_start_at_once_make_one_root_and_one_credential() {
    let Some((_mesh, replicas)) = Replicas::start(3).await else {
        return;
    };
    let mut roots = BTreeSet::new();
    for replica in &replicas {
        let bundle = replica.admin().get("/v1/bundle").await;
        roots.insert(
            bundle
                .expect("the credential admits everywhere")
                .to_string(),
        );
    }
    assert_eq!(roots.len(), 1, "{roots:?}");
}

#[tokio::test]
async fn an_agent_that_joined_through_one_replica_gets_certificates_from_another() {
    let Some((_mesh, [one, other])) = &two().await else {
        return;
    };
    let agent = joined_through(one).await;
    for id in [AGENT, ORDERS] {
        let svid = issued_soon(other, &agent, id).await;
        let recorded = one.admin().get(&format!("/v1/svids?spiffeId={id}")).await;
        let recorded = recorded.expect("the CA answers").to_string();
        assert!(recorded.contains(&svid), "{svid} is not in {recorded}");
    }
}

#[tokio::test]
async fn an_agent_goes_on_through_another_replica_when_its_own_is_killed() {
    let Some((_mesh, mut replicas)) = Replicas::start(2).await else {
        return;
    };
    let agent = joined_through(&replicas[0]).await;
    let _killed = replicas.remove(0).crash().await;
    issued_soon(&replicas[0], &agent, ORDERS).await;
}

#[tokio::test]
async fn an_agent_that_one_replica_forgets_gets_nothing_from_the_other() {
    let Some((_mesh, [one, other])) = &two().await else {
        return;
    };
    let agent = joined_through(one).await;
    issued_soon(other, &agent, ORDERS).await;
    let forgotten = one.admin().delete("/v1/agents/join-token/web-7").await;
    forgotten.expect("it was known");
    eventually("the other replica refuses it", || async {
        issued(other, &agent, ORDERS).await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_one_replica_bans_gets_nothing_from_the_other_until_the_ban_is_lifted() {
    let Some((_mesh, [one, other])) = &two().await else {
        return;
    };
    let agent = joined_through(one).await;
    issued_soon(other, &agent, ORDERS).await;
    let (path, why) = (
        "/v1/agents/join-token/web-7/ban",
        serde_json::json!({"reason": "test"}),
    );
    one.admin().post(path, &why).await.expect("it is known");
    eventually("the other replica refuses it", || async {
        issued(other, &agent, ORDERS).await.is_none().then_some(())
    })
    .await;
    one.admin().delete(path).await.expect("it is banned");
    issued_soon(other, &agent, ORDERS).await;
}

#[tokio::test]
async fn what_is_written_at_one_replica_is_in_force_at_the_other() {
    let Some((_mesh, [one, other])) = &two().await else {
        return;
    };
    let agent = joined_through(one).await;
    issued_soon(other, &agent, ORDERS).await;
    let without_agent = "apiVersion: countersign.dev/v1\nkind: Workload\n\
        metadata: {namespace: shop, name: orders}\nspec: {selectors: {unix: {uid: 1}}}";
    one.try_apply(without_agent).await.expect("it is valid");
    eventually(
        "the other replica no longer lets the agent hold it",
        || async { issued(other, &agent, ORDERS).await.is_none().then_some(()) },
    )
    .await;
}

#[tokio::test]
async fn a_second_replica_of_one_name_is_refused_while_the_first_lives() {
    let Some((mesh, mut replicas)) = Replicas::start(1).await else {
        return;
    };
    let said = mesh.refused(0).await;
    assert!(said.contains("another replica named ca-1"), "{said}");
    let _directory = replicas.remove(0).crash().await;
    let agent = joined_through(&mesh.launch(0).await).await;
    drop(agent);
}

#[tokio::test]
async fn builds_of_two_versions_live_on_one_database_until_the_newer_needs_it_alone() {
    let Some((mesh, mut replicas)) = Replicas::start(2).await else {
        return;
    };
    let agent = joined_through(&replicas[0]).await;
    let cluster = postgres_cluster::shared().expect("it was used");
    // What a newer build would do that only adds something.
    read_all(&replicas[0]).await;
    for sql in [
        EVERY_TABLE_GROWS,
        "CREATE TABLE added_later (name TEXT PRIMARY KEY)",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         SELECT version + 1, 'added later', true, '', 0 FROM schema",
        "UPDATE schema SET version = version + 1",
    ] {
        cluster.sql(mesh.database(), sql);
    }
    read_all(&replicas[0]).await;
    issued_soon(&replicas[0], &agent, ORDERS).await;
    let _directory = replicas.remove(1).crash().await;
    let restarted = mesh.launch(1).await;
    issued_soon(&restarted, &agent, ORDERS).await;

    cluster.sql(mesh.database(), "UPDATE schema SET min_reader = version");
    let workload = "apiVersion: countersign.dev/v1\nkind: Workload\n\
        metadata: {namespace: shop, name: later}\nspec: {selectors: {unix: {uid: 1}}}";
    let refused = restarted.try_apply(workload).await;
    assert_eq!(refused, None, "written by a build that is too old");
    drop(restarted.crash().await);
    let said = mesh.refused(1).await;
    assert!(
        said.contains("which needs a build that reads schema"),
        "{said}"
    );
}

/// What most of the statements are prepared for.
async fn read_all(replica: &CaProcess) {
    for path in [
        "agents",
        "authorities",
        "bundle",
        "downstreams",
        "horizon",
        "join-tokens",
        "log",
        "log/unlogged",
        "revisions",
        "revocations",
        "store",
        "svids",
    ] {
        let answer = replica.admin().get(&format!("/v1/{path}")).await;
        assert!(answer.is_ok(), "{path}: {answer:?}");
    }
}

async fn two() -> Option<(Replicas, [CaProcess; 2])> {
    let (mesh, replicas) = Replicas::start(2).await?;
    Some((mesh, replicas.try_into().expect("two were started")))
}

async fn joined_through(replica: &CaProcess) -> Joined {
    replica.register("shop", "orders").await;
    let token = replica.join_token("web-7", &["shop/orders"]).await;
    join(&token, &Clock::system()).await
}

/// The serial of a certificate for `id`, once the replica has heard that the agent may hold it.
async fn issued_soon(replica: &CaProcess, agent: &Joined, id: &str) -> String {
    eventually("the replica issues", || issued(replica, agent, id)).await
}

/// The serial of a certificate for `id`, unless it is refused.
async fn issued(replica: &CaProcess, agent: &Joined, id: &str) -> Option<String> {
    let line = Line::mutual(replica.agents_address(), agent, &Clock::system()).await;
    let (key, csr) = key_and_csr();
    match line.issue(id, csr).await.ok()?.result {
        Some(Issued::Svid(svid)) => {
            let svid = verified(svid, key, &agent.bundles, &Clock::system());
            Some(svid.svid().serial().to_string())
        }
        _ => None,
    }
}
