//! `countersign status`: the mesh at a glance.

use clap::Args;
use serde_json::{Value, json};

use crate::admin::AdminArguments;
use crate::get::columns;
use crate::kind::Kind;
use crate::output::{self, OutputArguments, Table, cell};

/// Show the CA, the agents, and what is not as it should be
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign status
  countersign status -o json | jq '.agents[] | select(.connected | not)'")]
pub(crate) struct Status {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Status {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let about = client.get("/v1/about").await?;
        let agents = client.get("/v1/agents").await?;
        let authorities = client.get("/v1/authorities").await?;
        let horizon = client.get("/v1/horizon").await?;
        let unlogged = client.get("/v1/log/unlogged?limit=20").await?;
        let status = json!({
            "url": client.url(),
            "ca": about,
            "agents": agents["items"],
            "unlogged": unlogged["items"],
            "expiry": expiry(&horizon),
            "horizon": horizon,
            "authorities": authorities,
        });
        output::print(self.output.format, &status, table)
    }
}

fn table(status: &Value) -> String {
    let mut facts = Table::pairs();
    for (name, pointer) in [
        ("trust domain", "/ca/trustDomain"),
        ("CA", "/url"),
        ("version", "/ca/version"),
        ("crypto", "/ca/backend"),
        ("revision", "/ca/revision"),
        ("root ends", "/expiry/root"),
        ("first intermediate ends", "/expiry/intermediate"),
        ("first agent ends", "/expiry/agent"),
        ("first workload ends", "/expiry/workload"),
        ("survives without a CA", "/expiry/survivesWithoutCa"),
    ] {
        facts.row([name.to_owned(), cell(status, pointer)]);
        if pointer == "/expiry/root" && !status["expiry"]["upstream"].is_null() {
            facts.row(["upstream ends".to_owned(), cell(status, "/expiry/upstream")]);
        }
    }
    let agents = status["agents"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = facts.render();
    text.push('\n');
    let unlogged = unlogged(&status["unlogged"]);
    let unheard = unheard(&status["authorities"]["upstream"]);
    let overdue = overdue(&status["horizon"]);
    for warning in unlogged.into_iter().chain(overdue).chain(unheard) {
        text.push_str(&warning);
        text.push('\n');
    }
    if agents.is_empty() {
        text.push_str("no agents have joined; `countersign join-token create` admits one\n");
        return text;
    }
    text.push_str(&columns(Kind::Agent, agents));
    for warning in agents.iter().flat_map(warnings) {
        text.push_str(&warning);
        text.push('\n');
    }
    text
}

/// The first to end of each kind, and for how long the mesh goes on without a CA.
fn expiry(horizon: &Value) -> Value {
    let first = |kind: &str| {
        let items = horizon["items"].as_array().into_iter().flatten();
        let ends = items.filter(|item| item["kind"] == kind);
        // RFC 3339 in UTC sorts as text does.
        let ends = ends.filter_map(|item| item["notAfter"].as_str());
        ends.min().map(str::to_owned)
    };
    let survives = horizon["survivesSeconds"].as_u64();
    let mut expiry = json!({
        "root": first("root"),
        "intermediate": first("intermediate"),
        "agent": first("agent"),
        "workload": first("workload"),
        "survivesWithoutCa": survives.map(|seconds| format!("{} min", seconds / 60)),
    });
    if let Some(upstream) = first("upstream") {
        expiry["upstream"] = upstream.into();
    }
    expiry
}

/// Certificates that are in use and were never recorded.
fn unlogged(leaves: &Value) -> Vec<String> {
    let leaves = leaves.as_array().into_iter().flatten();
    let leaves = leaves.map(|leaf| {
        format!(
            "UNLOGGED  {}, serial {}, seen by {} (through {}) at {}: this CA has never recorded it",
            cell(leaf, "/spiffeId"),
            cell(leaf, "/serial"),
            cell(leaf, "/workload"),
            cell(leaf, "/agentId"),
            cell(leaf, "/firstSeen"),
        )
    });
    leaves.collect()
}

/// The instance above is not followed.
pub(crate) fn unheard(upstream: &Value) -> Option<String> {
    let failure = upstream["failure"].as_str()?;
    let since = match upstream["heardAt"].as_str() {
        Some(at) => format!("since {at}"),
        None => "since this replica started".to_owned(),
    };
    Some(format!("UPSTREAM  not heard {since}: {failure}"))
}

/// What should have been renewed, and was not.
fn overdue(horizon: &Value) -> Vec<String> {
    let near = horizon["items"].as_array().into_iter().flatten();
    let near = near.filter(|item| item["near"] == true);
    let is_authority =
        |kind: &Value| kind == "root" || kind == "upstream" || kind == "intermediate";
    let authorities = near.filter(|item| is_authority(&item["kind"]));
    let authorities = authorities.map(|item| {
        let ends = cell(item, "/notAfter");
        format!(
            "ENDING  {} {} ends {ends}, and has no successor",
            cell(item, "/kind"),
            cell(item, "/name")
        )
    });
    let late = horizon["late"].as_array().into_iter().flatten();
    let named = late.clone().count() as u64;
    let late = late.map(|item| {
        format!(
            "LATE  {} of {} ends {}, and was not renewed",
            cell(item, "/spiffeId"),
            cell(item, "/agentId"),
            cell(item, "/notAfter"),
        )
    });
    let more = horizon["lateCount"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(named);
    let more = (more > 0).then(|| format!("LATE  {more} more"));
    let offset = horizon["clockOffsetMs"].as_i64().unwrap_or(0);
    let clock = (offset.abs() > 1000)
        .then(|| format!("CLOCK  the CA's replica is off by {offset} ms from the database"));
    authorities.chain(late).chain(more).chain(clock).collect()
}

fn warnings(agent: &Value) -> Vec<String> {
    let id = cell(agent, "/spiffeId");
    let reports = agent["reports"].as_array().into_iter().flatten();
    let problems = reports.clone().flat_map(|report| {
        let problems = report["problems"].as_array().into_iter().flatten();
        let problems = problems.filter_map(Value::as_str);
        problems.map(|problem| format!("PROBLEM  {}: {problem}", cell(report, "/workload")))
    });
    let bypassable = reports.flat_map(|report| {
        let ports = report["bypassable"].as_array().into_iter().flatten();
        ports.map(|port| {
            format!(
                "BYPASSABLE ({})  {}: port {} of {}:{} is reached past the proxy",
                cell(port, "/reach"),
                cell(report, "/workload"),
                cell(port, "/applicationPort"),
                cell(port, "/service"),
                cell(port, "/port"),
            )
        })
    });
    let offset = agent["clockOffsetMs"].as_i64().unwrap_or(0);
    let clock = (offset.abs() > 1000).then(|| format!("CLOCK  {id} is off by {offset} ms"));
    bypassable.chain(problems).chain(clock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_that_bypasses_the_proxy_is_shown() {
        let port = json!({ "service": "shop/orders", "port": "http", "applicationPort": 8080, "reach": "local-users" });
        let agent = json!({ "reports": [{ "workload": "shop/orders", "bypassable": [port] }] });
        assert_eq!(
            warnings(&agent),
            [
                "BYPASSABLE (local-users)  shop/orders: port 8080 of shop/orders:http is reached past the proxy"
            ]
        );
    }

    #[test]
    fn of_each_kind_the_first_to_end_is_told() {
        let horizon = json!({
            "items": [
                {"kind": "root", "notAfter": "2036-01-01T00:00:00Z"},
                {"kind": "intermediate", "notAfter": "2026-01-03T00:00:00Z"},
                {"kind": "intermediate", "notAfter": "2026-01-02T00:00:00Z"},
            ],
            "survivesSeconds": 2519,
        });
        let expected = json!({
            "root": "2036-01-01T00:00:00Z",
            "intermediate": "2026-01-02T00:00:00Z",
            "agent": null,
            "workload": null,
            "survivesWithoutCa": "41 min",
        });
        assert_eq!(expiry(&horizon), expected);
    }

    #[test]
    fn what_is_late_is_named_and_counted() {
        let horizon = json!({
            "items": [
                {"kind": "intermediate", "name": "ca-1", "notAfter": "T", "near": true},
                {"kind": "workload", "name": "w", "notAfter": "T", "near": true},
            ],
            "lateCount": 3,
            "late": [{"spiffeId": "w", "agentId": "a", "notAfter": "T"}],
            "clockOffsetMs": -2500,
        });
        let expected = [
            "ENDING  intermediate ca-1 ends T, and has no successor",
            "LATE  w of a ends T, and was not renewed",
            "LATE  2 more",
            "CLOCK  the CA's replica is off by -2500 ms from the database",
        ];
        assert_eq!(overdue(&horizon), expected);
    }

    #[test]
    fn a_certificate_that_was_never_recorded_is_shown() {
        let leaf = json!({
            "spiffeId": "spiffe://a/b", "serial": "7f", "workload": "shop/orders",
            "agentId": "spiffe://a/agent", "firstSeen": "2026-01-01T00:00:00Z",
        });
        assert_eq!(
            unlogged(&json!([leaf])),
            [
                "UNLOGGED  spiffe://a/b, serial 7f, seen by shop/orders (through spiffe://a/agent) at \
                 2026-01-01T00:00:00Z: this CA has never recorded it"
            ]
        );
    }

    #[test]
    fn what_a_proxy_cannot_do_is_shown() {
        let report = json!({ "workload": "edge/gateway", "problems": ["port 443: taken"] });
        let agent = json!({ "reports": [report] });
        assert_eq!(warnings(&agent), ["PROBLEM  edge/gateway: port 443: taken"]);
    }

    #[test]
    fn clock_that_is_off_is_shown_and_one_that_is_not_is_not() {
        let of = |offset: i64| warnings(&json!({ "spiffeId": "a", "clockOffsetMs": offset }));
        assert_eq!(of(-2500), ["CLOCK  a is off by -2500 ms"]);
        assert!(of(40).is_empty());
    }
}
