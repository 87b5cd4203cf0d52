//! Which agents a Workload names: one by its ID, or all those of an attestor of which the attestor
//! said certain things when it believed them.
//!
//! Invariant: values are compared as they are, byte by byte; there are no patterns. What an agent has
//! not been said to be, it is not.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use identity::{AgentId, SpiffeId};
use serde_json::{Map, Value, json};

use crate::parse::{Node, ParseCode, ParseError};

/// The longest name of an attestor or a selector, in bytes.
const LONGEST_NAME: usize = 63;
/// The longest value, in bytes.
const LONGEST_VALUE: usize = 255;
/// The field of an entry that is no selector.
const ATTESTOR: &str = "attestor";

/// One entry of a Workload's `agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedAgents {
    /// One agent.
    Id(SpiffeId),
    /// All that are so.
    Of(Box<AgentsOf>),
}

/// The agents of one attestor that hold all of these selectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentsOf {
    attestor: Attestor,
    having: AgentSelectors,
}

/// How an attestor is called in the IDs of its agents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attestor(Arc<str>);

/// What an attestor says of an agent: `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectorName(Arc<str>);

/// And which: `prod`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectorValue(Arc<str>);

/// At most [`AgentSelectors::MOST`] names, each with its value.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentSelectors(BTreeMap<SelectorName, SelectorValue>);

/// Text that is no selector, or too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSelector {
    /// Of an attestor or a selector.
    #[error("it must have 1 to 63 characters of a-z, 0-9 and inner hyphens")]
    Name,
    /// It says in an entry whose agents are meant.
    #[error("`attestor` is in every agent's ID, and no selector's name")]
    Reserved,
    /// Of a value.
    #[error("it must have 1 to 255 visible ASCII characters, without spaces")]
    Value,
    /// Names that one agent has, or one entry asks for.
    #[error("there are at most {} selectors", AgentSelectors::MOST)]
    TooMany,
    /// Of what is stored.
    #[error("selectors are a JSON object of texts")]
    Json,
}

/// Why an entry does not name an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// The entry names one, and this is another.
    Id,
    /// The agent's attestor is another one.
    Attestor(&'a AgentsOf),
    /// The agent has another value, or none.
    Selector(&'a AgentsOf, &'a SelectorName, Option<&'a SelectorValue>),
}

impl NamedAgents {
    /// The one question of who may hold a workload: whether this entry names the agent with this ID,
    /// of which its attestor said `held`.
    pub fn names(&self, agent: &SpiffeId, held: &AgentSelectors) -> bool {
        self.mismatch(agent, held).is_none()
    }

    /// Why [`Self::names`] says no; `None` where it says yes.
    pub fn mismatch<'a>(
        &'a self,
        agent: &SpiffeId,
        held: &'a AgentSelectors,
    ) -> Option<Mismatch<'a>> {
        match self {
            Self::Id(id) => (id != agent).then_some(Mismatch::Id),
            Self::Of(wanted) => wanted.mismatch(agent, held),
        }
    }

    pub(super) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        if node.is_mapping() {
            return AgentsOf::read(node).map(|agents| Self::Of(Box::new(agents)));
        }
        let id = node.parsed::<AgentId>()?;
        Ok(Self::Id(id.into()))
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!(id.as_str()),
            Self::Of(agents) => {
                let mut json = agents.having.to_json();
                json[ATTESTOR] = json!(agents.attestor.as_str());
                json
            }
        }
    }
}

impl AgentsOf {
    /// Whose agents.
    pub fn attestor(&self) -> &Attestor {
        &self.attestor
    }

    /// Which of them; all when empty.
    pub fn having(&self) -> &AgentSelectors {
        &self.having
    }

    fn mismatch<'a>(&'a self, agent: &SpiffeId, held: &'a AgentSelectors) -> Option<Mismatch<'a>> {
        let id = AgentId::try_from(agent.clone());
        if id.is_err() || id.is_ok_and(|id| id.attestor() != self.attestor.as_str()) {
            return Some(Mismatch::Attestor(self));
        }
        let mut wanted = self.having.iter();
        let (name, _) = wanted.find(|(name, value)| held.get(name) != Some(value))?;
        Some(Mismatch::Selector(self, name, held.get(name)))
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let what = "an entry of `agents`";
        let (mut attestor, mut having) = (None, AgentSelectors::default());
        for (key, at) in node.entries(what)? {
            if key == ATTESTOR {
                attestor = Some(at.parsed()?);
                continue;
            }
            let unknown = |rule: InvalidSelector| {
                let message = format!("{what} has no selector {key:?}: {rule}");
                at.refuse(ParseCode::UnknownField, message)
            };
            let name = key.parse().map_err(unknown)?;
            let full = |rule: InvalidSelector| at.invalid(format!("{rule} in {what}"));
            having.insert(name, at.parsed()?).map_err(full)?;
        }
        let attestor = attestor.ok_or_else(|| {
            let message = format!("{what} that is no SPIFFE ID must have `{ATTESTOR}`");
            node.refuse(ParseCode::MissingField, message)
        })?;
        Ok(Self { attestor, having })
    }
}

impl fmt::Display for NamedAgents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Of(agents) => agents.fmt(f),
        }
    }
}

impl fmt::Display for AgentsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "agents of attestor {}", self.attestor)?;
        if self.having.is_empty() {
            return Ok(());
        }
        write!(f, " with {}", self.having)
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("the entry names another agent by its ID"),
            Self::Attestor(wanted) => {
                write!(
                    f,
                    "the entry names {wanted}; this agent has another attestor"
                )
            }
            Self::Selector(wanted, name, Some(value)) => {
                write!(f, "the entry names {wanted}; this agent has {name}={value}")
            }
            Self::Selector(wanted, name, None) => {
                write!(f, "the entry names {wanted}; this agent has no {name}")
            }
        }
    }
}

impl AgentSelectors {
    /// The most that one agent has.
    pub const MOST: usize = 8;

    /// Of an agent of which nothing is said.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// The agent's value of this name.
    pub fn get(&self, name: &SelectorName) -> Option<&SelectorValue> {
        self.0.get(name)
    }

    /// Replaces the value of a name that is there.
    ///
    /// # Errors
    /// There are [`Self::MOST`] others already.
    pub fn insert(
        &mut self,
        name: SelectorName,
        value: SelectorValue,
    ) -> Result<(), InvalidSelector> {
        if self.0.len() >= Self::MOST && !self.0.contains_key(&name) {
            return Err(InvalidSelector::TooMany);
        }
        self.0.insert(name, value);
        Ok(())
    }

    /// By name.
    pub fn iter(&self) -> impl Iterator<Item = (&SelectorName, &SelectorValue)> {
        self.0.iter()
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn to_json(&self) -> Value {
        let fields = self.iter();
        let fields = fields.map(|(name, value)| (name.to_string(), json!(value.as_str())));
        Value::Object(fields.collect::<Map<_, _>>())
    }

    /// A JSON object of texts, as [`FromStr`] reads it.
    pub fn to_text(&self) -> String {
        self.to_json().to_string()
    }
}

impl FromStr for AgentSelectors {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let fields: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|_| InvalidSelector::Json)?;
        let mut selectors = Self::default();
        for (name, value) in fields {
            selectors.insert(name.parse()?, value.parse()?)?;
        }
        Ok(selectors)
    }
}

impl fmt::Display for AgentSelectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{name}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Attestor {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        require_label(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for SelectorName {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        require_label(text)?;
        if text == ATTESTOR {
            return Err(InvalidSelector::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for SelectorValue {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !(1..=LONGEST_VALUE).contains(&text.len()) || !visible {
            return Err(InvalidSelector::Value);
        }
        Ok(Self(text.into()))
    }
}

fn require_label(text: &str) -> Result<(), InvalidSelector> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    if (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(inner) && edges {
        Ok(())
    } else {
        Err(InvalidSelector::Name)
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// As written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(Attestor);
text!(SelectorName);
text!(SelectorValue);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent(attestor: &str) -> SpiffeId {
        let id = format!("spiffe://td/countersign/agent/{attestor}/web-7");
        id.parse().unwrap()
    }

    fn selectors(text: &str) -> AgentSelectors {
        text.parse().unwrap()
    }

    fn entry(attestor: &str, having: &str) -> NamedAgents {
        NamedAgents::Of(Box::new(AgentsOf {
            attestor: attestor.parse().unwrap(),
            having: selectors(having),
        }))
    }

    #[track_caller]
    fn reason(attestor: &str, held: &str) -> String {
        let entry = entry("k8s", r#"{"cluster": "prod", "namespace": "shop"}"#);
        let held = selectors(held);
        let mismatch = entry.mismatch(&agent(attestor), &held);
        mismatch.map(|why| why.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_agent_of_another_attestor_is_not_named_whatever_it_holds() {
        let why = reason("k8s-dev", r#"{"cluster": "prod", "namespace": "shop"}"#);
        assert_eq!(
            why,
            "the entry names agents of attestor k8s with cluster=prod, namespace=shop; \
             this agent has another attestor"
        );
    }

    #[test]
    fn an_agent_with_another_value_or_none_is_not_named() {
        let wanted = "the entry names agents of attestor k8s with cluster=prod, namespace=shop";
        let why = reason("k8s", r#"{"cluster": "dev", "namespace": "shop"}"#);
        assert_eq!(why, format!("{wanted}; this agent has cluster=dev"));
        let why = reason("k8s", r#"{"cluster": "prod", "namespaces": "shop"}"#);
        assert_eq!(why, format!("{wanted}; this agent has no namespace"));
    }

    #[test]
    fn a_workload_is_no_agent_of_any_attestor() {
        let workload = "spiffe://td/ns/k8s/sa/web".parse().unwrap();
        assert!(!entry("k8s", "{}").names(&workload, &AgentSelectors::default()));
    }

    #[test]
    fn an_agent_that_is_more_than_is_asked_for_is_named() {
        let held = r#"{"account": "agent", "cluster": "prod", "namespace": "shop"}"#;
        assert_eq!(reason("k8s", held), "");
    }

    #[test]
    fn stored_selectors_that_break_a_rule_are_refused() {
        let many: BTreeMap<_, _> = (0..9).map(|n| (format!("s{n}"), "v")).collect();
        for (text, why) in [
            ("[]", InvalidSelector::Json),
            (r#"{"a": 1}"#, InvalidSelector::Json),
            (r#"{"A": "v"}"#, InvalidSelector::Name),
            (r#"{"attestor": "v"}"#, InvalidSelector::Reserved),
            (r#"{"a": ""}"#, InvalidSelector::Value),
            (r#"{"a": "b c"}"#, InvalidSelector::Value),
            (&json!(many).to_string(), InvalidSelector::TooMany),
        ] {
            assert_eq!(text.parse::<AgentSelectors>(), Err(why), "{text}");
        }
    }

    #[test]
    fn entries_by_id_are_no_larger_for_others() {
        assert_eq!(size_of::<NamedAgents>(), size_of::<SpiffeId>());
    }

    fn held() -> impl Strategy<Value = AgentSelectors> {
        let fields = prop::collection::btree_map("[a-c]{1,2}", "[!-~]{1,3}", 0..=8);
        fields.prop_map(|fields| selectors(&json!(fields).to_string()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn selectors_are_read_as_they_were_written(held in held()) {
            prop_assert_eq!(held.to_text().parse(), Ok(held));
        }

        #[test]
        fn an_agent_is_named_by_each_part_of_what_it_holds_and_by_nothing_else(
            held in held(),
            asked in held(),
        ) {
            let part = asked.iter().all(|(name, value)| held.get(name) == Some(value));
            let entry = entry("k8s", &asked.to_text());
            prop_assert_eq!(entry.names(&agent("k8s"), &held), part);
        }
    }
}
