//! `countersign explain`: where the mesh would carry a call, what it would decide about it, and
//! why. A URL in place of a Service asks about the mesh's edges: with a caller for the way out,
//! without one for the way in.

use clap::Args;
use runtime::exit::Usage;
use serde_json::{Map, Value, json};

use self::edges::{To, Url};
use crate::admin::AdminArguments;
use crate::output::{self, OutputArguments, Table, cell};

mod carriage;
mod edges;

/// Say where a call would go, whether it would be permitted there, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign explain --from shop/checkout --to shop/orders:http --method GET --path /
  countersign explain --from spiffe://demo.example/ns/bi/sa/reports --to data/db:pg
  countersign explain --to https://shop.example.com/orders/7
  countersign explain --from shop/checkout --to http://api.payments.example")]
pub(crate) struct Explain {
    /// Who calls: a workload (namespace/name) or a SPIFFE ID; leave out for a caller outside the
    /// mesh, who calls a Gateway
    #[arg(long, value_name = "WORKLOAD")]
    from: Option<String>,
    /// What is called: namespace/service:port, or as callers write it the https URL of a Gateway
    /// or the http URL of an External
    #[arg(long, value_name = "SERVICE:PORT|URL", value_parser = edges::to)]
    to: To,
    /// The HTTP method; leave out for a TCP service
    #[arg(long)]
    method: Option<String>,
    /// The HTTP path; leave out for a TCP service and where `--to` is a URL
    #[arg(long, requires = "method")]
    path: Option<String>,
    /// A request header, as name=value; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl Explain {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let (place, question, table): (_, _, fn(&Value) -> String) = match (&self.from, &self.to) {
            (Some(from), To::Service(to)) => ("", self.question(from, to)?, table),
            (Some(from), To::Host(url)) => {
                ("/external", self.way_out(from, url)?, edges::exit_table)
            }
            (None, To::Host(url)) => ("/gateway", self.way_in(url)?, edges::entrance_table),
            (None, To::Service(to)) => {
                let text = format!("say who calls {to}: --from namespace/name");
                return Err(Usage(text).into());
            }
        };
        let client = self.admin.client()?;
        let place = format!("/v1/explain{place}");
        let explanation = client.post(&place, &question).await?;
        output::print(self.output.format, &explanation, table)
    }

    fn question(&self, from: &str, to: &str) -> Result<Value, Usage> {
        if self.method.is_some() != self.path.is_some() {
            return Err(Usage("--method and --path go together".to_owned()));
        }
        Ok(self.with_request(json!({ "from": from, "to": to })))
    }

    fn way_in(&self, url: &Url) -> Result<Value, Usage> {
        if !url.is_tls {
            let text = format!("a Gateway speaks TLS alone: write https://{}", url.host);
            return Err(Usage(text));
        }
        if self.path.is_some() {
            let text = "the path is a part of the URL: leave --path out";
            return Err(Usage(text.to_owned()));
        }
        let question = json!({ "host": url.host, "port": url.port, "path": url.path });
        Ok(self.with_request(question))
    }

    fn way_out(&self, from: &str, url: &Url) -> Result<Value, Usage> {
        if url.is_tls {
            let host = &url.host;
            return Err(Usage(format!(
                "a workload speaks plain HTTP to its own proxy, which originates TLS: write \
                 http://{host}"
            )));
        }
        if self.method.is_some() || !self.headers.is_empty() {
            let text = "an External lets a workload call a host, whatever it asks there: leave \
                        --method and --header out";
            return Err(Usage(text.to_owned()));
        }
        Ok(json!({ "from": from, "host": url.host, "port": url.port }))
    }

    fn with_request(&self, mut question: Value) -> Value {
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
    render(&tables)
}

fn render(tables: &[Table]) -> String {
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
