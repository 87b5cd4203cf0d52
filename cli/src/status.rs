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
        let status = json!({
            "url": client.url(),
            "ca": about,
            "agents": agents["items"],
            "expiry": expiry(&authorities, &agents["items"]),
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
    ] {
        facts.row([name.to_owned(), cell(status, pointer)]);
    }
    let agents = status["agents"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = facts.render();
    text.push('\n');
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

/// The earliest end of each kind: of the root that signs, of what each replica signs with now, and
/// of the agents that are connected.
fn expiry(authorities: &Value, agents: &Value) -> Value {
    let ends = |items: &Value, counts: &dyn Fn(&Value) -> bool| {
        let items = items.as_array().into_iter().flatten();
        let ends = items.filter(|item| counts(item));
        // RFC 3339 in UTC sorts as text does.
        let ends = ends.filter_map(|item| item["notAfter"].as_str());
        ends.min().map(str::to_owned)
    };
    let mut newest = serde_json::Map::new();
    for item in authorities["intermediates"]
        .as_array()
        .into_iter()
        .flatten()
    {
        newest.insert(cell(item, "/replica"), item.clone());
    }
    let newest = Value::from_iter(newest.into_iter().map(|(_, item)| item));
    json!({
        "root": ends(&authorities["items"], &|item| item["phase"] == "active"),
        "intermediate": ends(&newest, &|_| true),
        "agent": ends(agents, &|agent| agent["connected"] == true),
    })
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
    fn what_ends_first_is_told_of_what_is_in_use() {
        let authorities = json!({
            "items": [
                {"phase": "draining", "notAfter": "2026-01-01T00:00:00Z"},
                {"phase": "active", "notAfter": "2036-01-01T00:00:00Z"},
            ],
            "intermediates": [
                {"replica": "ca-1", "notAfter": "2026-01-01T00:00:00Z"},
                {"replica": "ca-1", "notAfter": "2026-01-03T00:00:00Z"},
                {"replica": "ca-2", "notAfter": "2026-01-02T00:00:00Z"},
            ],
        });
        let agents = json!([
            {"connected": false, "notAfter": "2026-01-01T00:00:00Z"},
            {"connected": true, "notAfter": "2026-01-02T00:00:00Z"},
        ]);
        let expected = json!({
            "root": "2036-01-01T00:00:00Z",
            "intermediate": "2026-01-02T00:00:00Z",
            "agent": "2026-01-02T00:00:00Z",
        });
        assert_eq!(expiry(&authorities, &agents), expected);
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
