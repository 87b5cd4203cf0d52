//! Changes to a request's header fields, before it leaves the caller's proxy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::parse::{Fields, Node, ParseError, Shape};
use crate::resource::http_match::{HeaderName, HeaderValue};
use crate::resource::texts;

/// Fields set and removed. Never one that belongs to the connection or to the mesh: `host`, the
/// hop-by-hop fields, `x-forwarded-client-cert`, `countersign-*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderChanges {
    /// Replaces every value that the request has.
    pub set: BTreeMap<HeaderName, HeaderValue>,
    /// In every occurrence.
    pub remove: BTreeSet<HeaderName>,
}

const SHAPE: Shape = Shape {
    what: "`headers` of a rule",
    known: &["set", "remove"],
    later: &[],
};

/// Fields that [`HeaderName`] takes, for a rule may compare them, but no route may change.
const OWNED: [&str; 4] = [
    "expect",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
];

impl HeaderChanges {
    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SHAPE)?;
        let changes = Self {
            set: read_set(&fields)?,
            remove: read_remove(&fields)?,
        };
        if changes == Self::default() {
            return Err(node.invalid("`headers` must state set or remove"));
        }
        if let Some(both) = changes
            .remove
            .iter()
            .find(|name| changes.set.contains_key(*name))
        {
            return Err(node.duplicate(format!("header `{both}` is both set and removed")));
        }
        Ok(changes)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut changes = json!({});
        if !self.set.is_empty() {
            let set = self.set.iter();
            let set = set.map(|(name, value)| (name.to_string(), value.to_string()));
            changes["set"] = json!(set.collect::<BTreeMap<_, _>>());
        }
        if !self.remove.is_empty() {
            changes["remove"] = json!(texts(&self.remove));
        }
        changes
    }
}

fn read_set(fields: &Fields<'_>) -> Result<BTreeMap<HeaderName, HeaderValue>, ParseError> {
    let mut set = BTreeMap::new();
    let Some(map) = fields.optional("set") else {
        return Ok(set);
    };
    for (key, node) in map.entries("`set`")? {
        let value = node
            .text()?
            .parse()
            .map_err(|error| node.invalid(format!("header `{key}` is refused: {error}")))?;
        if set.insert(changeable(key, &node)?, value).is_some() {
            return Err(node.duplicate("this header is there in another spelling"));
        }
    }
    Ok(set)
}

fn read_remove(fields: &Fields<'_>) -> Result<BTreeSet<HeaderName>, ParseError> {
    let mut remove = BTreeSet::new();
    let Some(list) = fields.optional("remove") else {
        return Ok(remove);
    };
    for node in list.list()? {
        if !remove.insert(changeable(node.text()?, &node)?) {
            return Err(node.duplicate("this header is already in the list"));
        }
    }
    Ok(remove)
}

fn changeable(text: &str, node: &Node<'_>) -> Result<HeaderName, ParseError> {
    let refuse = || {
        node.invalid(format!(
            "header `{text}` is the proxy's own, so no route changes it"
        ))
    };
    let name: HeaderName = text.parse().map_err(|error| match error {
        super::http_match::InvalidHttp::HeaderName => {
            node.invalid(format!("header `{text}` is refused: {error}"))
        }
        _ => refuse(),
    })?;
    if OWNED.contains(&name.as_str().replace('_', "-").as_str()) {
        return Err(refuse());
    }
    Ok(name)
}
