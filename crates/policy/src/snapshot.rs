//! THE evaluator. Proxy, CA, CLI and tests all ask this one.
//!
//! A snapshot is immutable and whole: if any object cannot be read, or two contradict each other,
//! it denies everything as `indeterminate` and says why. Nothing is applied in part.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crypto::digest::HashKey;
use identity::{QualifiedName, SpiffeId};
use serde_json::Value;

use crate::decision::{Decision, DecisionClass, DecisionId, DenyReason, Indeterminate, Verdict};
use crate::engine::{ENGINE_VERSION, EVALUATOR};
use crate::last_decision::LastDecision;
use crate::parse::parse_json;
use crate::question::{Question, Request, RequestPath, Target};
use crate::resource::{External, Gateway, Route, Service, Source};
use crate::revision::Revision;
use crate::world::{MeshNames, ObjectSet};

mod compile;
mod rules;

use compile::{Listener, World};
pub(crate) use rules::{Caller, CompiledRule, Condition, conditions};

/// The path shape of a request that no template fits.
const UNMATCHED: &str = "unmatched";

/// A compiled configuration. Cloning shares it.
#[derive(Clone)]
pub struct PolicySnapshot(Arc<Inner>);

struct Inner {
    revision: Revision,
    revision_text: String,
    decision_key: HashKey,
    unmatched: Arc<str>,
    world: Result<World, Indeterminate>,
}

impl PolicySnapshot {
    /// Compiles objects. `custom` are registered identities outside the template, beside those of
    /// Workload objects that are in the set.
    pub fn compile(
        revision: Revision,
        decision_key: &[u8],
        mesh: &MeshNames,
        objects: &ObjectSet,
        custom: &[(QualifiedName, SpiffeId)],
    ) -> Self {
        Self::of(
            revision,
            decision_key,
            World::compile(mesh, objects, custom),
        )
    }

    /// Compiles objects in their JSON form, as a CA sends them, which may be newer than this.
    pub fn compile_json<'a>(
        revision: Revision,
        decision_key: &[u8],
        engine_version: u32,
        mesh: &MeshNames,
        objects: impl IntoIterator<Item = &'a str>,
        custom: &[(QualifiedName, SpiffeId)],
    ) -> Self {
        let world = read_objects(engine_version, objects)
            .and_then(|objects| World::compile(mesh, &objects, custom));
        Self::of(revision, decision_key, world)
    }

    /// Answers a question.
    pub fn judge(&self, question: &Question<'_>) -> Decision {
        self.judge_again(question, &mut LastDecision::default())
    }

    /// Answers a question of one who asks much the same again and again: nothing is hashed then
    /// on the way to an allow.
    pub fn judge_again(&self, question: &Question<'_>, last: &mut LastDecision) -> Decision {
        let (verdict, path_shape) = self.verdict(question);
        let name = || self.name(question, &verdict, &path_shape);
        let id = last.name(self.0.revision, question, &verdict, &path_shape, name);
        Decision {
            verdict,
            id,
            revision: self.0.revision,
            path_shape,
        }
    }

    /// The answer to whoever the deny-list in force names, whatever the rules say.
    pub fn revoked(&self, question: &Question<'_>) -> Decision {
        let verdict = Verdict::Deny(DenyReason::Revoked);
        let path_shape = Arc::clone(&self.0.unmatched);
        Decision {
            id: self.name(question, &verdict, &path_shape),
            verdict,
            revision: self.0.revision,
            path_shape,
        }
    }

    fn name(&self, question: &Question<'_>, verdict: &Verdict, path_shape: &str) -> DecisionId {
        let service = question.target.service;
        DecisionId::of(
            &self.0.decision_key,
            &DecisionClass {
                revision: &self.0.revision_text,
                evaluator: EVALUATOR,
                source: question.source.as_str(),
                service: [
                    service.namespace.as_str(),
                    service.name.as_str(),
                    question.target.port.as_str(),
                ],
                method: question.request.method().unwrap_or_default(),
                path_shape,
                verdict,
            },
        )
    }

    /// The configuration that this was compiled from.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// Why everything is denied, if it is.
    pub fn indeterminate(&self) -> Option<&Indeterminate> {
        self.0.world.as_ref().err()
    }

    /// The services, by name. None when the snapshot is indeterminate.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.0.world.iter().flat_map(World::services)
    }

    /// The service of this name.
    pub fn service(&self, name: &QualifiedName) -> Option<&Service> {
        self.0.world.as_ref().ok()?.service(name)
    }

    /// How calls are carried, by Service and port. None when the snapshot is indeterminate.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.0.world.iter().flat_map(World::routes)
    }

    /// Ways into the mesh.
    pub fn gateways(&self) -> impl Iterator<Item = &Arc<Gateway>> {
        self.0.world.iter().flat_map(World::gateways)
    }

    /// Ways out of the mesh.
    pub fn externals(&self) -> impl Iterator<Item = &Arc<External>> {
        self.0.world.iter().flat_map(World::externals)
    }

    /// Whether one of the sources is this caller.
    pub fn names_caller(&self, sources: &[Source], id: &SpiffeId) -> bool {
        self.0.world.as_ref().is_ok_and(|world| {
            let caller = world.caller(id);
            sources
                .iter()
                .any(|source| rules::speaks_of(source, &caller))
        })
    }

    /// What is known of a caller; `None` when the snapshot is indeterminate.
    pub(crate) fn with_caller<T>(
        &self,
        id: &SpiffeId,
        tell: impl FnOnce(&Caller<'_>) -> T,
    ) -> Option<T> {
        let world = self.0.world.as_ref().ok()?;
        Some(tell(&world.caller(id)))
    }

    /// Whether there is anything that this caller may ask of the target: no baseline denies it, and
    /// a rule speaks of it, whatever the rule asks for. Permits no request: what a request may, only
    /// [`Self::judge`] says.
    pub fn may_ask_something(&self, source: &SpiffeId, target: &Target<'_>) -> bool {
        self.0.world.as_ref().is_ok_and(|world| {
            let caller = world.caller(source);
            world.listener(target).is_some_and(|listener| {
                let denied = listener.deny.first_speaking_of(&caller).is_some();
                !denied && listener.allow.first_speaking_of(&caller).is_some()
            })
        })
    }

    /// The identities that may serve a service: what a caller verifies. Empty, so nobody, for a
    /// service that the snapshot does not have. A workload with a custom ID may still show the
    /// one that the template gives it, which can be nobody else's.
    pub fn expected_servers(&self, name: &QualifiedName) -> Arc<BTreeSet<SpiffeId>> {
        match &self.0.world {
            Ok(world) => world.expected_servers(name),
            Err(_) => Arc::default(),
        }
    }

    fn of(revision: Revision, decision_key: &[u8], world: Result<World, Indeterminate>) -> Self {
        Self(Arc::new(Inner {
            revision,
            revision_text: revision.to_string(),
            decision_key: HashKey::from_bytes(decision_key),
            unmatched: UNMATCHED.into(),
            world,
        }))
    }

    fn verdict(&self, question: &Question<'_>) -> (Verdict, Arc<str>) {
        let unmatched = Arc::clone(&self.0.unmatched);
        if let Some(RequestPath::Ambiguous(reason)) = question.request.path() {
            return (Verdict::Deny(DenyReason::PathAmbiguous(*reason)), unmatched);
        }
        let world = match &self.0.world {
            Ok(world) => world,
            Err(why) => return (indeterminate(why.clone()), unmatched),
        };
        let Some(listener) = world.listener(&question.target) else {
            return (indeterminate(Indeterminate::UnknownTarget), unmatched);
        };
        let (verdict, shape) = listener.judge(world, question);
        (verdict, shape.unwrap_or(unmatched))
    }

    /// The listener that a question means, with the world that it is in.
    pub(crate) fn listener(&self, question: &Question<'_>) -> Option<(&World, &Listener)> {
        let world = self.0.world.as_ref().ok()?;
        Some((world, world.listener(&question.target)?))
    }
}

impl fmt::Debug for PolicySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicySnapshot")
            .field("revision", &self.0.revision_text)
            .field("indeterminate", &self.indeterminate())
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// `design: Evaluation`, steps 1 to 3. Also gives the path template that fits the request.
    fn judge(&self, world: &World, question: &Question<'_>) -> (Verdict, Option<Arc<str>>) {
        let caller = world.caller(question.source);
        if let Some(rule) = self.deny.first_speaking_of(&caller) {
            let reason = DenyReason::BaselineDeny(Arc::clone(rule));
            return (Verdict::Deny(reason), self.allow.shape(&question.request));
        }
        if self.protocol.is_http() != matches!(question.request, Request::Http { .. }) {
            return (indeterminate(Indeterminate::WrongRequest), None);
        }
        if let Some((rule, shape)) = self.allow.first_allowing(&caller, &question.request) {
            return (Verdict::Allow(Arc::clone(rule)), shape);
        }
        let reason = if self.has_policy {
            DenyReason::NoRuleMatched
        } else {
            DenyReason::NoPolicy
        };
        (Verdict::Deny(reason), self.allow.shape(&question.request))
    }
}

fn indeterminate(why: Indeterminate) -> Verdict {
    Verdict::Deny(DenyReason::Indeterminate(why))
}

fn read_objects<'a>(
    needed: u32,
    objects: impl IntoIterator<Item = &'a str>,
) -> Result<ObjectSet, Indeterminate> {
    if needed > ENGINE_VERSION {
        let have = ENGINE_VERSION;
        return Err(Indeterminate::NewerEngine { needed, have });
    }
    let unreadable = |error: String| Indeterminate::Unreadable(error.into());
    let mut set = ObjectSet::new();
    for text in objects {
        let value: Value =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let object = parse_json(&value).map_err(|error| unreadable(describe(&value, &error)))?;
        let key = object.key();
        if set.apply(crate::world::Change::Put(object)) != crate::world::Outcome::Created {
            let message = format!("{key} occurs twice");
            return Err(Indeterminate::Contradiction(message.into()));
        }
    }
    Ok(set)
}

/// Which object, since a CA sends many without a document index of their own.
fn describe(value: &Value, error: &crate::parse::ParseError) -> String {
    let text = |pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("?")
    };
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    format!(
        "{kind} {}/{name}, {}: {}",
        text("/metadata/namespace"),
        error.pointer,
        error.message
    )
}

#[cfg(test)]
mod tests;
