//! Where a Route has a call go, as `explain` shows it to people.

use serde_json::Value;

use crate::output::{Table, cell};

/// The verdict of the call: where a Route carries it, that of the backends.
pub(super) fn verdict(explanation: &Value) -> String {
    match cell(explanation, "/route/verdict").as_str() {
        "-" => cell(explanation, "/verdict"),
        "mixed" => "mixed: it depends on the backend that is drawn".to_owned(),
        verdict => verdict.to_owned(),
    }
}

/// Adds which rule is followed and what it says.
pub(super) fn facts(route: &Value, facts: &mut Table) {
    let rule = match route["rule"].as_u64() {
        Some(rule) => format!(
            "{}, rule {rule} of {}",
            cell(route, "/object"),
            route["rules"]
        ),
        None => cell(route, "/object"),
    };
    facts.row(["route".to_owned(), rule]);
    facts.row(["followed".to_owned(), cell(route, "/message")]);
    if route["rule"].is_u64() {
        let matching = match &route["match"] {
            Value::Null => "every request".to_owned(),
            matching => words(matching),
        };
        facts.row(["match".to_owned(), matching]);
    }
    for (name, setting) in route["settings"].as_object().into_iter().flatten() {
        facts.row([name.clone(), words(setting)]);
    }
    for note in list(route, "notes") {
        facts.row(["note".to_owned(), words(note)]);
    }
}

/// Where the call goes and what policy says there, and which rules it just missed.
pub(super) fn tables(route: &Value) -> Vec<Table> {
    let mut backends = Table::new(&["SHARE", "BACKEND", "VERDICT", "BECAUSE"]);
    let drawn = list(route, "backends").map(|backend| (String::new(), backend));
    let copied = route
        .get("mirror")
        .map(|mirror| ("copies of ".to_owned(), mirror));
    for (what, to) in drawn.chain(copied) {
        backends.row([
            format!("{what}{} %", to["percent"].as_f64().unwrap_or_default()),
            cell(to, "/target"),
            cell(to, "/verdict"),
            cell(to, "/message"),
        ]);
    }
    let mut tables = vec![backends];
    if list(route, "nearestMisses").next().is_some() {
        let mut near = Table::new(&["NEAREST RULE OF THE ROUTE", "CONDITION", "WANTED", "GOT"]);
        for miss in list(route, "nearestMisses") {
            near.row(["/rule", "/condition", "/wanted", "/got"].map(|at| cell(miss, at)));
        }
        tables.push(near);
    }
    tables
}

/// The answers of policy that the call meets: at each backend, else at the target.
pub(super) fn judged(explanation: &Value) -> Vec<&Value> {
    match explanation.get("route") {
        Some(route) => list(route, "backends").chain(route.get("mirror")).collect(),
        None => vec![explanation],
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// A setting as it would be said: `request 2s, perTry 600ms`.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let said = fields.iter().map(|(name, value)| match value {
                Value::Object(_) => format!("{name} ({})", words(value)),
                _ => format!("{name} {}", words(value)),
            });
            said.collect::<Vec<_>>().join(", ")
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_is_said_in_words() {
        let retry =
            json!({"limit": 2, "on": ["connect-failure", "503"], "backoff": {"base": "25ms"}});
        assert_eq!(
            words(&retry),
            "backoff (base 25ms), limit 2, on connect-failure 503"
        );
    }

    #[test]
    fn the_verdict_of_a_call_is_that_of_where_it_goes() {
        let routed = json!({"verdict": "allow", "route": {"verdict": "deny"}});
        assert_eq!(verdict(&routed), "deny");
        assert_eq!(verdict(&json!({"verdict": "allow"})), "allow");
    }
}
