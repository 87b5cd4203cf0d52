//! The edges of the mesh, as `explain` is asked about them and shows them to people.

use http::Uri;
use serde_json::Value;

use super::{add, carriage, nearest_rules, render};
use crate::output::{Table, cell};

/// What is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    /// `namespace/service:port`.
    Service(String),
    Host(Url),
}

/// An `http` or `https` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// With the query.
    pub(super) path: String,
}

/// Reads `--to`.
pub(super) fn to(text: &str) -> Result<To, String> {
    if !text.contains("://") {
        return Ok(To::Service(text.to_owned()));
    }
    let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("a URL begins with https:// or http://".to_owned()),
    };
    let host = uri.host().filter(|host| !host.is_empty());
    Ok(To::Host(Url {
        is_tls,
        host: host.ok_or("the URL names no host")?.to_owned(),
        port: uri.port_u16(),
        path: uri
            .path_and_query()
            .map_or("/", |it| it.as_str())
            .to_owned(),
    }))
}

/// What becomes of a request from outside.
pub(super) fn entrance_table(explanation: &Value) -> String {
    let mut facts = Table::pairs();
    let verdict = match cell(explanation, "/verdict").as_str() {
        "mixed" => "mixed: it depends on the proxy or backend that takes it".to_owned(),
        verdict => verdict.to_owned(),
    };
    facts.row(["verdict".to_owned(), verdict]);
    let rows = [
        ("because", "/message"),
        ("host", "/host"),
        ("port", "/port"),
        ("method", "/method"),
        ("path", "/path"),
        ("revision", "/revision"),
    ];
    add(&mut facts, explanation, &rows);
    add_notes(&mut facts, explanation);
    let mut tables = vec![facts];
    let entrances = explanation["entrances"].as_array();
    for entrance in entrances.into_iter().flatten() {
        tables.extend(entrance_tables(entrance));
    }
    render(&tables)
}

fn entrance_tables(entrance: &Value) -> Vec<Table> {
    let mut facts = Table::pairs();
    facts.row(["gateway".to_owned(), cell(entrance, "/object")]);
    let rows = [
        ("listener", "/listener"),
        ("workload", "/workload"),
        ("certificate", "/certificateFile"),
        ("verdict", "/verdict"),
    ];
    add(&mut facts, entrance, &rows);
    if let Some(route) = entrance["route"].as_u64() {
        let route = format!("{route} of {}", entrance["routes"]);
        facts.row(["route".to_owned(), route]);
    }
    add(&mut facts, entrance, &[("because", "/message")]);
    let call = entrance.get("call");
    if let Some(call) = call {
        add(
            &mut facts,
            call,
            &[("caller", "/source"), ("target", "/target")],
        );
        let judged = [("policy", "/message"), ("decision", "/decisionId")];
        match call.get("route") {
            Some(route) => carriage::facts(route, &mut facts),
            None => add(&mut facts, call, &judged),
        }
    }
    let mut tables = vec![facts];
    tables.extend(misses(entrance, "NEAREST ROUTE", "/rule"));
    let route = call.and_then(|call| call.get("route"));
    tables.extend(route.map(carriage::tables).into_iter().flatten());
    tables.extend(call.and_then(nearest_rules));
    tables
}

/// What becomes of a call to a host outside.
pub(super) fn exit_table(explanation: &Value) -> String {
    let mut facts = Table::pairs();
    let rows = [
        ("verdict", "/verdict"),
        ("because", "/message"),
        ("caller", "/source"),
        ("host", "/host"),
        ("port", "/port"),
        ("external", "/object"),
    ];
    add(&mut facts, explanation, &rows);
    if let Some(tls) = explanation.get("tls") {
        facts.row(["tls".to_owned(), carriage::words(tls)]);
    }
    add(&mut facts, explanation, &[("revision", "/revision")]);
    add_notes(&mut facts, explanation);
    let mut tables = vec![facts];
    tables.extend(misses(explanation, "NEAREST EXTERNAL", "/object"));
    render(&tables)
}

fn add_notes(facts: &mut Table, explanation: &Value) {
    for note in explanation["notes"].as_array().into_iter().flatten() {
        facts.row(["note".to_owned(), cell(note, "")]);
    }
}

fn misses(explanation: &Value, heading: &str, name: &str) -> Option<Table> {
    let misses = explanation["nearestMisses"].as_array()?;
    let mut near = Table::new(&[heading, "CONDITION", "WANTED", "GOT"]);
    for miss in misses {
        near.row([name, "/condition", "/wanted", "/got"].map(|at| cell(miss, at)));
    }
    (!misses.is_empty()).then_some(near)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_neither_a_service_nor_a_web_url_is_refused() {
        for text in ["ftp://a.example", "https://", "http://a b", "https:///path"] {
            assert!(to(text).is_err(), "{text}");
        }
        assert_eq!(
            to("shop/orders:http"),
            Ok(To::Service("shop/orders:http".to_owned()))
        );
        let url = Url {
            is_tls: true,
            host: "shop.example".to_owned(),
            port: Some(8443),
            path: "/a?b".to_owned(),
        };
        assert_eq!(to("https://shop.example:8443/a?b"), Ok(To::Host(url)));
    }

    #[test]
    fn a_request_that_no_gateway_takes_shows_why() {
        let told = json!({
            "verdict": "deny", "reason": "no-route", "message": "no Gateway has a.example",
            "host": "a.example", "port": 443, "entrances": [], "notes": [],
        });
        assert_eq!(
            entrance_table(&told),
            "verdict  deny\nbecause  no Gateway has a.example\nhost     a.example\nport     443\n"
        );
    }

    #[test]
    fn an_entrance_shows_its_listener_and_what_policy_says_of_its_workload() {
        let told = json!({
            "verdict": "deny", "message": "Gateway edge/public takes it", "notes": [],
            "entrances": [{
                "object": "Gateway edge/public", "listener": "web", "workload": "edge/gateway",
                "certificateFile": "/tls/a.pem", "verdict": "deny", "route": 2, "routes": 3,
                "message": "route 2 is the only one that matches", "nearestMisses": [],
                "call": {
                    "source": "spiffe://td/ns/edge/sa/gateway", "target": "shop/orders:http",
                    "message": "no rule matched", "decisionId": "d1",
                    "nearestMisses": [{
                        "rule": {"object": "Policy shop/orders", "id": "web"},
                        "condition": "from", "wanted": "shop/web", "got": "edge/gateway",
                    }],
                },
            }],
        });
        assert_eq!(
            entrance_table(&told),
            "verdict  deny\n\
             because  Gateway edge/public takes it\n\n\
             gateway      Gateway edge/public\n\
             listener     web\n\
             workload     edge/gateway\n\
             certificate  /tls/a.pem\n\
             verdict      deny\n\
             route        2 of 3\n\
             because      route 2 is the only one that matches\n\
             caller       spiffe://td/ns/edge/sa/gateway\n\
             target       shop/orders:http\n\
             policy       no rule matched\n\
             decision     d1\n\n\
             NEAREST RULE            CONDITION  WANTED    GOT\n\
             Policy shop/orders#web  from       shop/web  edge/gateway\n"
        );
    }

    #[test]
    fn a_way_out_shows_its_external_and_what_it_missed() {
        let told = json!({
            "verdict": "deny", "message": "`from` does not name the caller",
            "source": "spiffe://td/ns/shop/sa/orders", "host": "a.example",
            "object": "External shop/a", "port": 443,
            "tls": {"mode": "originate", "roots": "system"}, "notes": [],
            "nearestMisses": [{
                "object": "External shop/a", "condition": "from",
                "wanted": "workload shop/checkout", "got": "workload shop/orders",
            }],
        });
        assert_eq!(
            exit_table(&told),
            "verdict   deny\n\
             because   `from` does not name the caller\n\
             caller    spiffe://td/ns/shop/sa/orders\n\
             host      a.example\n\
             port      443\n\
             external  External shop/a\n\
             tls       mode originate, roots system\n\n\
             NEAREST EXTERNAL  CONDITION  WANTED                  GOT\n\
             External shop/a   from       workload shop/checkout  workload shop/orders\n"
        );
    }
}
