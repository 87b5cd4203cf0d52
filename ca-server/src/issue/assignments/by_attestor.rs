//! The workloads that name agents by attestor and selectors, found from what one agent holds.
//!
//! Invariant: a tree of what entries ask for, selectors in order of their names. An agent walks only
//! along branches that it fulfils, at most 2⁸ of them and usually three or four, however many
//! workloads and agents there are.

use identity::{AgentId, QualifiedName, SpiffeId};
use imbl::{OrdMap, OrdSet};
use policy::resource::{AgentSelectors, AgentsOf, SelectorName, SelectorValue};

/// By attestor. Cloning shares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ByAttestor(OrdMap<String, Branch>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Branch {
    /// Whose entries ask for nothing more.
    workloads: OrdSet<QualifiedName>,
    further: OrdMap<Selector, Self>,
}

type Selector = (SelectorName, SelectorValue);

impl ByAttestor {
    pub(super) fn insert(&mut self, agents: &AgentsOf, workload: &QualifiedName) {
        let attestor = agents.attestor().as_str().to_owned();
        let mut branch = self.0.entry(attestor).or_default();
        for selector in in_order(agents.having()) {
            branch = branch.further.entry(selector).or_default();
        }
        branch.workloads.insert(workload.clone());
    }

    pub(super) fn remove(&mut self, agents: &AgentsOf, workload: &QualifiedName) {
        let attestor = agents.attestor().as_str();
        let Some(root) = self.0.get_mut(attestor) else {
            return;
        };
        let path: Vec<_> = in_order(agents.having()).collect();
        root.remove(&path, workload);
        if root.is_empty() {
            self.0.remove(attestor);
        }
    }

    /// The sets of workloads whose entries name the agent; one may be in several.
    pub(super) fn naming(
        &self,
        agent: &SpiffeId,
        held: &AgentSelectors,
    ) -> Vec<&OrdSet<QualifiedName>> {
        let mut found = Vec::new();
        if self.0.is_empty() {
            return found;
        }
        let attestor = AgentId::try_from(agent.clone()).ok();
        if let Some(root) = attestor.and_then(|id| self.0.get(id.attestor())) {
            let held: Vec<_> = in_order(held).collect();
            root.walk(&held, &mut found);
        }
        found
    }
}

impl Branch {
    fn walk<'a>(&'a self, held: &[Selector], found: &mut Vec<&'a OrdSet<QualifiedName>>) {
        if !self.workloads.is_empty() {
            found.push(&self.workloads);
        }
        if self.further.is_empty() {
            return;
        }
        for (index, selector) in held.iter().enumerate() {
            if let Some(branch) = self.further.get(selector) {
                branch.walk(&held[index + 1..], found);
            }
        }
    }

    fn remove(&mut self, path: &[Selector], workload: &QualifiedName) {
        let Some((selector, rest)) = path.split_first() else {
            self.workloads.remove(workload);
            return;
        };
        let Some(branch) = self.further.get_mut(selector) else {
            return;
        };
        branch.remove(rest, workload);
        if branch.is_empty() {
            self.further.remove(selector);
        }
    }

    fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.further.is_empty()
    }
}

fn in_order(selectors: &AgentSelectors) -> impl Iterator<Item = Selector> {
    let selectors = selectors.iter();
    selectors.map(|(name, value)| (name.clone(), value.clone()))
}
