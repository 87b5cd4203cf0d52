//! The tables `selectors` of `[[attest.jwt]]` and `[attest.x509pop]`: what the agents of an attestor
//! hold beside their IDs.
//!
//! Refuses: a name that is none or reserved, more than an agent may have, and text that no value is.

use std::collections::BTreeMap;

use policy::resource::{AgentSelectors, InvalidSelector, SelectorName};
use serde::Deserialize;

use super::claims::SelectorTemplate;

/// From claims, or fixed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, SelectorTemplate>")]
pub struct TokenSelectors(BTreeMap<SelectorName, SelectorTemplate>);

/// The same for each host: certificates say nothing more than names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, SelectorTemplate>")]
pub struct HostSelectors(AgentSelectors);

/// A table that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorsError {
    #[error("selector {name:?}: {rule}")]
    Rule { name: String, rule: InvalidSelector },
    #[error("selector {0:?}: a host's certificate has no claims, so it must be a fixed text")]
    NotFixed(String),
}

impl TokenSelectors {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SelectorName, &SelectorTemplate)> {
        self.0.iter()
    }
}

impl HostSelectors {
    pub(crate) fn held(&self) -> &AgentSelectors {
        &self.0
    }
}

impl SelectorsError {
    fn rule(name: &str, rule: InvalidSelector) -> Self {
        let name = name.to_owned();
        Self::Rule { name, rule }
    }
}

impl TryFrom<BTreeMap<String, SelectorTemplate>> for TokenSelectors {
    type Error = SelectorsError;

    fn try_from(table: BTreeMap<String, SelectorTemplate>) -> Result<Self, SelectorsError> {
        let mut selectors = BTreeMap::new();
        for (name, template) in table {
            let refused = |rule| SelectorsError::rule(&name, rule);
            let selector = name.parse().map_err(refused)?;
            if selectors.len() >= AgentSelectors::MOST {
                return Err(refused(InvalidSelector::TooMany));
            }
            selectors.insert(selector, template);
        }
        Ok(Self(selectors))
    }
}

impl TryFrom<BTreeMap<String, SelectorTemplate>> for HostSelectors {
    type Error = SelectorsError;

    fn try_from(table: BTreeMap<String, SelectorTemplate>) -> Result<Self, SelectorsError> {
        let mut selectors = AgentSelectors::default();
        for (name, template) in table {
            let refused = |rule| SelectorsError::rule(&name, rule);
            let selector = name.parse().map_err(refused)?;
            let fixed = template.fixed();
            let value = fixed.ok_or_else(|| SelectorsError::NotFixed(name.clone()))?;
            selectors.insert(selector, value).map_err(refused)?;
        }
        Ok(Self(selectors))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(table: &str, expected: &str) {
        let of_tokens = toml::from_str::<TokenSelectors>(table).unwrap_err();
        let of_hosts = toml::from_str::<HostSelectors>(table).unwrap_err();
        for error in [of_tokens, of_hosts] {
            assert!(error.to_string().contains(expected), "{table}: {error}");
        }
    }

    #[test]
    fn tables_that_no_agent_could_hold_are_refused() {
        refused("attestor = 'k8s'", "\"attestor\": `attestor`");
        refused("Cluster = 'prod'", "\"Cluster\": it must have 1 to 63");
        refused("cluster = ''", "1 to 255 visible");
        refused("cluster = 1", "string");
        let nine: String = (0..9).map(|number| format!("s{number} = 'a'\n")).collect();
        refused(&nine, "at most 8");
    }

    #[test]
    fn claims_of_a_host_are_refused() {
        let error = toml::from_str::<HostSelectors>("cluster = '{/cluster}'").unwrap_err();
        assert!(error.to_string().contains("no claims"), "{error}");
    }
}
