//! `countersign explain`: what the mesh would decide about a call, and why.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::admin::AdminArguments;
use crate::output::{self, OutputArguments, Table, cell};

/// Say whether a call would be permitted, and why
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
    let mut facts = Table::pairs();
    for (name, pointer) in [
        ("verdict", "/verdict"),
        ("because", "/message"),
        ("caller", "/source"),
        ("target", "/target"),
        ("path", "/path"),
        ("decision", "/decisionId"),
        ("revision", "/revision"),
        ("note", "/notes/0"),
    ] {
        if explanation
            .pointer(pointer)
            .is_some_and(|value| !value.is_null())
        {
            facts.row([name.to_owned(), cell(explanation, pointer)]);
        }
    }
    let misses = explanation["nearestMisses"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if misses.is_empty() {
        return facts.render();
    }
    let mut near = Table::new(&["NEAREST RULE", "CONDITION", "WANTED", "GOT"]);
    for miss in misses {
        let rule = format!("{}#{}", cell(miss, "/rule/object"), cell(miss, "/rule/id"));
        near.row([
            rule,
            cell(miss, "/condition"),
            cell(miss, "/wanted"),
            cell(miss, "/got"),
        ]);
    }
    format!("{}\n{}", facts.render(), near.render())
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
}
