//! The name of the last decision, kept by one who asks much the same again and again.
//!
//! Invariant: a name is used again only for the same class of decisions of the same snapshot: the
//! rule and the path shape are the very objects of it, and are held.

use std::sync::Arc;

use identity::SpiffeId;

use crate::decision::{DecisionId, Rule, Verdict};
use crate::question::Question;
use crate::revision::Revision;

/// Empty until the first allow.
#[derive(Debug, Clone, Default)]
pub struct LastDecision(Option<Box<Named>>);

#[derive(Debug, Clone)]
struct Named {
    revision: Revision,
    rule: Arc<Rule>,
    path_shape: Arc<str>,
    source: SpiffeId,
    service: [String; 3],
    method: String,
    id: DecisionId,
}

impl LastDecision {
    /// The name of this decision, from before or from `name`. Only allows are kept.
    pub(crate) fn name(
        &mut self,
        revision: Revision,
        question: &Question<'_>,
        verdict: &Verdict,
        path_shape: &Arc<str>,
        name: impl FnOnce() -> DecisionId,
    ) -> DecisionId {
        let Verdict::Allow(rule) = verdict else {
            return name();
        };
        let known = self.0.as_ref().filter(|known| {
            known.revision == revision
                && Arc::ptr_eq(&known.rule, rule)
                && Arc::ptr_eq(&known.path_shape, path_shape)
                && known.asked(question)
        });
        if let Some(known) = known {
            return known.id;
        }
        let id = name();
        self.0 = Some(Box::new(Named {
            revision,
            rule: Arc::clone(rule),
            path_shape: Arc::clone(path_shape),
            source: question.source.clone(),
            service: service(question).map(str::to_owned),
            method: method(question).to_owned(),
            id,
        }));
        id
    }
}

impl Named {
    fn asked(&self, question: &Question<'_>) -> bool {
        self.method == method(question)
            && self.source == *question.source
            && self.service == service(question)
    }
}

fn method<'a>(question: &Question<'a>) -> &'a str {
    question.request.method().unwrap_or_default()
}

fn service<'a>(question: &Question<'a>) -> [&'a str; 3] {
    let service = question.target.service;
    let port = question.target.port.as_str();
    [service.namespace.as_str(), service.name.as_str(), port]
}
