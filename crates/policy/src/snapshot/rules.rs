//! Rules of one listener, found by who calls.
//!
//! Rules are looked up by the caller's identity and namespace, so the cost of a decision grows
//! with the rules that speak of this caller, not with all rules. Which of several matching rules
//! is named is fixed (the first in the order of the objects); the verdict never depends on it.

use std::collections::HashMap;
use std::sync::Arc;

use identity::{SpiffeId, TrustDomain};

use crate::decision::Rule;
use crate::question::{HeaderLookup, HeaderValues, Request, RequestPath};
use crate::resource::{HttpMatch, Source};
use crate::world::MeshNames;

/// What is known of a caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) id: &'a SpiffeId,
    /// Of our own trust domain.
    pub(crate) is_own: bool,
    /// Namespace and name, by the registry's custom IDs or by the template.
    pub(crate) name: Option<(&'a str, &'a str)>,
}

/// A rule with its texts ready. A deny rule has no `to`.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) rule: Arc<Rule>,
    pub(crate) from: Vec<Source>,
    pub(crate) to: Vec<HttpMatch>,
}

/// One condition of an entry of `to.http`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Condition<'a> {
    Methods,
    Path,
    Header(&'a str),
}

/// Rules of one listener.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    rules: Vec<Arc<CompiledRule>>,
    /// `identity`, and `workload` by every ID that its name has.
    identities: HashMap<SpiffeId, Vec<usize>>,
    namespaces: HashMap<Box<str>, Vec<usize>>,
    under: Vec<(SpiffeId, usize)>,
    domains: Vec<(TrustDomain, usize)>,
    any: Vec<usize>,
}

impl RuleSet {
    pub(super) fn new(
        rules: Vec<Arc<CompiledRule>>,
        mesh: &MeshNames,
        custom: &HashMap<SpiffeId, (Box<str>, Box<str>)>,
    ) -> Self {
        let mut set = Self::default();
        for (index, rule) in rules.iter().enumerate() {
            for source in &rule.from {
                set.add_source(index, source, mesh, custom);
            }
        }
        set.rules = rules;
        set
    }

    /// The first rule that speaks of this caller, whatever it asks: for a rule that denies, all it
    /// takes.
    pub(super) fn first_speaking_of(&self, caller: &Caller<'_>) -> Option<&Arc<Rule>> {
        let first = self.speaking_of(caller).min()?;
        Some(&self.rules[first].rule)
    }

    /// The first rule that speaks of this caller and this request, and the template that fits.
    pub(super) fn first_allowing(
        &self,
        caller: &Caller<'_>,
        request: &Request<'_>,
    ) -> Option<(&Arc<Rule>, Option<Arc<str>>)> {
        let fitting = |index: usize| Some((index, self.rules[index].fit(request)?));
        let (first, fit) = self
            .speaking_of(caller)
            .filter_map(fitting)
            .min_by_key(|(index, _)| *index)?;
        Some((&self.rules[first].rule, fit.shape()))
    }

    /// The first template of any rule that fits the path, whoever calls.
    pub(super) fn shape(&self, request: &Request<'_>) -> Option<Arc<str>> {
        let RequestPath::Canonical(path) = request.path()? else {
            return None;
        };
        let entries = self.rules.iter().flat_map(|rule| &rule.to);
        let mut templates = entries.filter_map(|entry| entry.path.as_ref());
        Some(
            templates
                .find(|template| template.matches(path))?
                .shared_text(),
        )
    }

    pub(crate) fn rules(&self) -> impl Iterator<Item = &CompiledRule> {
        self.rules.iter().map(|rule| &**rule)
    }

    fn add_source(
        &mut self,
        index: usize,
        source: &Source,
        mesh: &MeshNames,
        custom: &HashMap<SpiffeId, (Box<str>, Box<str>)>,
    ) {
        match source {
            Source::Workload(name, _) => {
                let is_its = |owner: &(Box<str>, Box<str>)| {
                    *owner.0 == *name.namespace.as_str() && *owner.1 == *name.name.as_str()
                };
                let custom = custom
                    .iter()
                    .filter(|(_, owner)| is_its(owner))
                    .map(|(id, _)| id);
                for id in custom.cloned().chain([mesh.id(name)]) {
                    self.identities.entry(id).or_default().push(index);
                }
            }
            Source::Identity(id) => self.identities.entry(id.clone()).or_default().push(index),
            Source::Namespace(name, _) => {
                self.namespaces
                    .entry(name.as_str().into())
                    .or_default()
                    .push(index);
            }
            Source::Under(id) => self.under.push((id.clone(), index)),
            Source::TrustDomain(domain) => self.domains.push((domain.clone(), index)),
            Source::AnyMtlsPeer => self.any.push(index),
        }
    }

    /// Indices of the rules one of whose sources is this caller, in no order.
    fn speaking_of(&self, caller: &Caller<'_>) -> impl Iterator<Item = usize> {
        let (id, is_own) = (caller.id, caller.is_own);
        let exact = self.identities.get(id).into_iter().flatten().copied();
        let by_namespace = caller
            .name
            .and_then(|(namespace, _)| self.namespaces.get(namespace));
        let under = self
            .under
            .iter()
            .filter(move |(above, _)| id.is_under(above));
        let domain = self
            .domains
            .iter()
            .filter(move |(domain, _)| id.trust_domain() == domain);
        let any = self.any.iter().filter(move |_| is_own);
        let wide = by_namespace
            .into_iter()
            .flatten()
            .copied()
            .chain(under.map(|(_, index)| *index))
            .chain(domain.map(|(_, index)| *index))
            .chain(any.copied());
        let is_reserved = id.is_reserved();
        exact.chain(wide.filter(move |_| !is_reserved))
    }
}

/// How a rule fits a request.
enum Fit<'a> {
    Everything,
    By(&'a HttpMatch),
}

impl Fit<'_> {
    fn shape(&self) -> Option<Arc<str>> {
        match self {
            Self::Everything => None,
            Self::By(entry) => entry
                .path
                .as_ref()
                .map(crate::path::PathTemplate::shared_text),
        }
    }
}

impl CompiledRule {
    /// Whether a source of this rule is the caller: the plain reading of each `from` entry.
    pub(crate) fn speaks_of(&self, caller: &Caller<'_>) -> bool {
        self.from.iter().any(|source| speaks_of(source, caller))
    }

    fn fit(&self, request: &Request<'_>) -> Option<Fit<'_>> {
        if self.to.is_empty() {
            return Some(Fit::Everything);
        }
        self.to
            .iter()
            .find(|entry| fits(entry, request))
            .map(Fit::By)
    }
}

pub(super) fn speaks_of(source: &Source, caller: &Caller<'_>) -> bool {
    if let Source::Identity(id) = source {
        return id == caller.id;
    }
    if caller.id.is_reserved() {
        return false;
    }
    match source {
        Source::Identity(_) => false,
        Source::Workload(name, _) => {
            caller.name == Some((name.namespace.as_str(), name.name.as_str()))
        }
        Source::Namespace(namespace, _) => caller
            .name
            .is_some_and(|(given, _)| given == namespace.as_str()),
        Source::Under(above) => caller.id.is_under(above),
        Source::TrustDomain(domain) => caller.id.trust_domain() == domain,
        Source::AnyMtlsPeer => caller.is_own,
    }
}

fn fits(entry: &HttpMatch, request: &Request<'_>) -> bool {
    conditions(entry).all(|condition| condition.holds(entry, request))
}

impl HttpMatch {
    /// Whether all that is stated holds of the request. A path that has more than one reading
    /// fits no template.
    pub fn fits(&self, request: &Request<'_>) -> bool {
        fits(self, request)
    }
}

/// The conditions that an entry states.
pub(crate) fn conditions(entry: &HttpMatch) -> impl Iterator<Item = Condition<'_>> {
    let methods = (!entry.methods.is_empty()).then_some(Condition::Methods);
    let path = entry.path.as_ref().map(|_| Condition::Path);
    let headers = entry
        .headers
        .keys()
        .map(|name| Condition::Header(name.as_str()));
    methods.into_iter().chain(path).chain(headers)
}

impl Condition<'_> {
    /// No condition holds of a connection.
    pub(crate) fn holds(&self, entry: &HttpMatch, request: &Request<'_>) -> bool {
        let Request::Http {
            method,
            path,
            headers,
        } = request
        else {
            return false;
        };
        match self {
            Self::Methods => entry.methods.contains(*method),
            Self::Path => match (&entry.path, path) {
                (Some(template), RequestPath::Canonical(path)) => template.matches(path),
                _ => false,
            },
            Self::Header(name) => single_value_is(entry, name, *headers),
        }
    }
}

fn single_value_is(entry: &HttpMatch, name: &str, headers: &dyn HeaderLookup) -> bool {
    match (entry.headers.get(name), headers.lookup(name)) {
        (Some(wanted), HeaderValues::One(value)) => wanted.as_str().as_bytes() == value,
        _ => false,
    }
}
