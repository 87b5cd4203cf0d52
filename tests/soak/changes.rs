//! A change of policy every second: one call is always permitted, another now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cli::admin::Client;
use http::StatusCode;
use mesh_tests::shop::ORDERS;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::calls::{Line, Tally};
use crate::say;
use crate::world::World;

const EVERY: Duration = Duration::from_secs(1);
const JUDGED: usize = 3;

/// Whether the second call is permitted.
pub(crate) fn policy(toggled: bool) -> String {
    let toggled = if toggled {
        ", {methods: [GET], path: \"/toggled\"}"
    } else {
        ""
    };
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: orders}}
spec:
  targets: [{{service: orders, port: http}}]
  allow:
  - id: checkout
    from: [{{workload: shop/checkout}}]
    to: {{http: [{{methods: [GET], path: "/v1/{{rest=**}}"}}{toggled}]}}
"#
    )
}

pub(crate) fn spawn(world: &World, tally: &Arc<Tally>, end: &CancellationToken) -> JoinSet<()> {
    let (operator, line) = (world.operator(), Line::new(world.outbound()));
    let (tally, end) = (Arc::clone(tally), end.clone());
    let mut changing = JoinSet::new();
    changing.spawn(async move { run(operator, line, &tally, &end).await });
    changing
}

async fn run(operator: Client, mut line: Line, tally: &Tally, end: &CancellationToken) {
    let mut permitted = true;
    while !end.is_cancelled() {
        sleep(EVERY).await;
        permitted = !permitted;
        tally.changes.fetch_add(1, Ordering::Relaxed);
        if !acknowledged(&operator, permitted).await {
            tally.unacknowledged.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        for _ in 0..JUDGED {
            judge(&mut line, tally, permitted).await;
        }
    }
}

async fn judge(line: &mut Line, tally: &Tally, permitted: bool) {
    // A call that got no answer was not judged; whether it should have is the callers' concern.
    let Ok((status, _)) = line.get(&format!("{ORDERS}/toggled")).await else {
        return;
    };
    tally.judged.fetch_add(1, Ordering::Relaxed);
    let expected = if permitted {
        StatusCode::OK
    } else {
        StatusCode::FORBIDDEN
    };
    if status != expected {
        tally.misjudged.fetch_add(1, Ordering::Relaxed);
        say(&format!(
            "{status} after an acknowledgement, not {expected}"
        ));
    }
}

/// Whether every agent has acknowledged the change. An agent that is not connected cannot, and
/// then nothing is claimed.
async fn acknowledged(operator: &Client, permitted: bool) -> bool {
    let objects = policy::parse_documents(&policy(permitted)).expect("valid objects");
    let objects: Vec<Value> = objects.iter().map(policy::Resource::to_json).collect();
    let changeset = json!({"reason": "soak", "apply": objects});
    let Ok(answer) = operator.post("/v1/changesets", &changeset).await else {
        return false;
    };
    let Some(revision) = answer["revision"].as_str() else {
        return false;
    };
    let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=5000");
    let Ok(answer) = operator.get(&path).await else {
        return false;
    };
    let everybody = operator.get("/v1/agents").await;
    let connected = everybody.is_ok_and(|agents| {
        let agents = agents["items"].as_array().cloned().unwrap_or_default();
        agents.len() >= 3 && agents.iter().all(|agent| agent["connected"] == true)
    });
    connected && !answer["enforcement"]["enforcedAt"].is_null()
}
