//! `countersign explain`: where the mesh would carry a call, what it would decide about it, and
//! why.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::admin::AdminArguments;
use crate::output::{self, OutputArguments, Table, cell};

mod carriage;

/// Say where a call would go, whether it would be permitted there, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign explain --from shop/checkout --to shop/orders:http --method GET --path /
  countersign explain --from spiffe://demo.example/ns/bi/sa/reports --to data/db:pg")]
pub(crate) struct Explain {
    /// Who calls: a workload (namespace/name) or a SPIFFE ID
    #[arg(long, value_name = "WORKLOAD")]
    from: String,
    /// What is called: namespace/service:port
    #[arg(long, value_name = "SERVICE:PORT")]
    to: String,
    /// The HTTP method; leave out for a TCP service
    #[arg(long, requires = "path")]
    method: Option<String>,
    /// The HTTP path; leave out for a TCP service
    #[arg(long, requires = "method")]
    path: Option<String>,
    /// A request header, as name=value; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header, requires = "method")]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Explain {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let explanation = self
            .admin
            .client()?
            .post("/v1/explain", &self.question())
            .await?;
        output::print(self.output.format, &explanation, table)
    }

    fn question(&self) -> Value {
        let mut question = json!({ "from": self.from, "to": self.to });
        if let Some(method) = &self.method {
            question["method"] = json!(method);
        }
        if let Some(path) = &self.path {
            question["path"] = json!(path);
        }
        if !self.headers.is_empty() {
            let headers = self
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)));
            question["headers"] = Value::Object(headers.collect::<Map<_, _>>());
        }
        question
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if name.parse::<http::HeaderName>().is_ok() => {
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        }
        _ => Err("write name=value, as in x-team=web".to_owned()),
    }
}

fn table(explanation: &Value) -> String {
    let route = explanation.get("route");
    let mut facts = Table::pairs();
    facts.row(["verdict".to_owned(), carriage::verdict(explanation)]);
    if route.is_none() {
        facts.row(["because".to_owned(), cell(explanation, "/message")]);
    }
    add(&mut facts, explanation, &ABOUT_THE_CALL);
    if let Some(route) = route {
        carriage::facts(route, &mut facts);
    } else {
        add(&mut facts, explanation, &[("decision", "/decisionId")]);
    }
    add(&mut facts, explanation, &[("revision", "/revision")]);
    for note in explanation["notes"].as_array().into_iter().flatten() {
        facts.row(["note".to_owned(), cell(note, "")]);
    }
    let mut tables = vec![facts];
    tables.extend(route.map(carriage::tables).into_iter().flatten());
    tables.extend(nearest_rules(explanation));
    let texts: Vec<String> = tables.iter().map(Table::render).collect();
    texts.join("\n")
}

const ABOUT_THE_CALL: [(&str, &str); 4] = [
    ("caller", "/source"),
    ("target", "/target"),
    ("method", "/method"),
    ("path", "/path"),
];

/// Adds those that are there.
fn add(facts: &mut Table, explanation: &Value, rows: &[(&str, &str)]) {
    for (name, pointer) in rows {
        let value = explanation.pointer(pointer);
        if value.is_some_and(|value| !value.is_null()) {
            facts.row([(*name).to_owned(), cell(explanation, pointer)]);
        }
    }
}

/// Rules of policy that would have allowed a call that is denied.
fn nearest_rules(explanation: &Value) -> Option<Table> {
    let mut near = Table::new(&["NEAREST RULE", "CONDITION", "WANTED", "GOT"]);
    let judged = carriage::judged(explanation).into_iter();
    let misses = judged.filter_map(|judged| judged["nearestMisses"].as_array());
    let mut any = false;
    for miss in misses.flatten() {
        let rule = format!("{}#{}", cell(miss, "/rule/object"), cell(miss, "/rule/id"));
        near.row([
            rule,
            cell(miss, "/condition"),
            cell(miss, "/wanted"),
            cell(miss, "/got"),
        ]);
        any = true;
    }
    any.then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_without_a_value_is_refused() {
        assert!(header("x-team").is_err());
        assert!(header("x team=a").is_err());
        assert_eq!(
            header("X-Team=a=b").unwrap(),
            ("x-team".to_owned(), "a=b".to_owned())
        );
    }

    #[test]
    fn denial_shows_the_nearest_rule_and_what_it_wanted() {
        let text = table(&json!({
            "verdict": "deny",
            "message": "no rule of the target's policy matched",
            "nearestMisses": [{
                "rule": { "object": "Policy shop/orders", "id": "web" },
                "condition": "from",
                "wanted": "shop/checkout",
                "got": "shop/intruder",
            }],
        }));
        assert_eq!(
            text,
            "verdict  deny\n\
             because  no rule of the target's policy matched\n\n\
             NEAREST RULE            CONDITION  WANTED         GOT\n\
             Policy shop/orders#web  from       shop/checkout  shop/intruder\n"
        );
    }

    #[test]
    fn a_routed_call_shows_the_rule_its_backends_and_what_it_missed() {
        let judged = |verdict: &str, message: &str, target: &str| json!({"verdict": verdict, "message": message, "target": target, "nearestMisses": []});
        let mut here = judged("allow", "allowed by x", "shop/orders:http");
        here["percent"] = json!(75.0);
        let mut there = judged("deny", "no policy", "shop/orders-v2:http");
        there["percent"] = json!(25.0);
        let mut explanation = judged("allow", "allowed by x", "shop/orders:http");
        explanation["route"] = json!({
            "object": "Route shop/orders", "verdict": "mixed", "rule": 3, "rules": 3,
            "message": "rule 3 is the only one that matches", "backends": [here, there],
            "nearestMisses": [{"rule": 1, "condition": "headers.x-canary", "wanted": "true", "got": "another value"}],
            "settings": {"timeout": {"perTry": "600ms", "request": "2s"}}, "notes": [],
        });
        assert_eq!(
            table(&explanation),
            "verdict   mixed: it depends on the backend that is drawn\n\
             target    shop/orders:http\n\
             route     Route shop/orders, rule 3 of 3\n\
             followed  rule 3 is the only one that matches\n\
             match     every request\n\
             timeout   perTry 600ms, request 2s\n\n\
             SHARE  BACKEND              VERDICT  BECAUSE\n\
             75 %   shop/orders:http     allow    allowed by x\n\
             25 %   shop/orders-v2:http  deny     no policy\n\n\
             NEAREST RULE OF THE ROUTE  CONDITION         WANTED  GOT\n\
             1                          headers.x-canary  true    another value\n"
        );
    }
}
