//! What reading and writing one object means, for every kind.
//!
//! Each write goes through the registry, which judges the resulting whole. A write that needs a
//! policy engine newer than a live proxy's is refused.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::{Kind, ObjectKey, Outcome, Resource, Revision};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::auth::Administrator;
use super::body::{Body, Format};
use super::elsewhere::Elsewhere;
use super::preconditions::{Conditions, etag};
use super::problem::Problem;
use super::query::{limit, parse};
use super::schema::AnyObject;
use crate::registry::{Applied, Proposal, Registry, RegistryObject, ServiceAddresses};
use crate::store::{Changes, Expected, Precondition};
use crate::watch::Presence;

mod engines;

pub(super) use engines::require_deny_lists;

/// Objects in one page.
const PAGE: u32 = 1000;
const LONGEST_REASON: usize = 500;

/// Reads and writes objects.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    registry: Registry,
    presence: Presence,
    elsewhere: Elsewhere,
}

/// Which objects of a kind are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those of this namespace.
    namespace: Option<String>,
    /// At most so many, 1 to 1000 (1000 when left out).
    limit: Option<u32>,
    /// Only those that follow this name in order: the `next` of the page before.
    after: Option<String>,
}

/// Why an object is written or deleted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WriteQuery {
    /// Kept with the revision; at most 500 bytes.
    reason: Option<String>,
}

/// One page of objects.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ObjectList {
    /// Each with `revision`, which last changed it.
    #[schema(value_type = Vec<AnyObject>)]
    items: Vec<Value>,
    /// What is in force.
    revision: String,
    /// Where the next page begins; left out on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Objects {
    pub(super) fn new(registry: Registry, presence: Presence, elsewhere: Elsewhere) -> Self {
        Self {
            registry,
            presence,
            elsewhere,
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn list(&self, kind: Kind, query: &ListQuery) -> Result<Json<ObjectList>, Problem> {
        let namespace = query
            .namespace
            .as_deref()
            .map(|text| parse("namespace", text));
        let namespace = namespace.transpose()?;
        if namespace.is_some() && !kind.is_namespaced() {
            let detail = format!("a {kind} has no namespace");
            return Err(Problem::bad_request("bad-query", detail));
        }
        let limit = limit(query.limit, PAGE)? as usize;
        let after = query
            .after
            .as_deref()
            .map(|text| key_of_path(kind, text))
            .transpose()?;
        let snapshot = self.registry.snapshot();
        let mut wanted = snapshot
            .iter()
            .filter(|object| object.key.kind == kind)
            .filter(|object| namespace.is_none() || object.key.namespace == namespace)
            .filter(|object| after.as_ref().is_none_or(|after| object.key > after));
        let page: Vec<_> = wanted.by_ref().take(limit).collect();
        let more = wanted.next().is_some();
        Ok(Json(ObjectList {
            next: page
                .last()
                .filter(|_| more)
                .map(|last| path_of_key(last.key)),
            items: page.iter().map(representation).collect(),
            revision: snapshot.revision().to_string(),
        }))
    }

    pub(super) fn get(
        &self,
        key: &ObjectKey,
        conditions: &Conditions,
    ) -> Result<Response, Problem> {
        let snapshot = self.registry.snapshot();
        let object = snapshot
            .object(key)
            .ok_or_else(|| Problem::not_found(key))?;
        let tag = [(header::ETAG, etag(object.revision))];
        if conditions.not_modified(object.revision) {
            return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
        }
        Ok((tag, Json(representation(&object))).into_response())
    }

    /// Writes the object of `body`, which must be the one that the path names.
    pub(super) async fn put(
        &self,
        key: ObjectKey,
        conditions: &Conditions,
        query: WriteQuery,
        author: &Administrator,
        body: &Body,
    ) -> Result<Response, Problem> {
        let (resource, read_at) = one_object(body)?;
        require_key(&key, &resource)?;
        let mut preconditions = conditions.for_write(&key)?;
        preconditions.extend(read_at.map(|revision| Precondition {
            key: key.clone(),
            expected: Expected::AnyOf(vec![revision]),
        }));
        let json = resource.to_json();
        let changes = Changes {
            upserts: vec![resource],
            preconditions,
            ..Changes::default()
        };
        let reason = reason(query.reason, || format!("put {key}"))?;
        let applied = self.write(changes, author, reason, false).await?;
        let status = match applied.outcomes.first() {
            Some((_, Outcome::Created)) => StatusCode::CREATED,
            _ => StatusCode::OK,
        };
        // Unchanged objects keep the revision that last changed them.
        let revision = if applied.changed {
            applied.revision
        } else {
            let snapshot = self.registry.snapshot();
            snapshot
                .object(&key)
                .map_or(applied.revision, |object| object.revision)
        };
        let tag = [(header::ETAG, etag(revision))];
        let snapshot = self.registry.snapshot();
        let addresses = snapshot.object(&key).and_then(|object| object.addresses);
        Ok((status, tag, Json(with_status(json, revision, addresses))).into_response())
    }

    pub(super) async fn delete(
        &self,
        key: ObjectKey,
        conditions: &Conditions,
        query: WriteQuery,
        author: &Administrator,
    ) -> Result<StatusCode, Problem> {
        let preconditions = conditions.for_write(&key)?;
        let reason = reason(query.reason, || format!("delete {key}"))?;
        let changes = Changes {
            deletes: vec![key],
            preconditions,
            ..Changes::default()
        };
        self.write(changes, author, reason, false).await?;
        Ok(StatusCode::NO_CONTENT)
    }

    pub(super) async fn write(
        &self,
        changes: Changes,
        author: &Administrator,
        reason: String,
        dry_run: bool,
    ) -> Result<Applied, Problem> {
        let needed = self.engine_needed(&changes);
        // Every engine has the first.
        if needed > 1 {
            let others = self.elsewhere.others().await?;
            engines::require(needed, &self.presence.connected(), &others)?;
        }
        let author = author.author();
        Ok(self
            .registry
            .apply(Proposal {
                changes,
                author,
                reason,
                dry_run,
            })
            .await?)
    }

    /// The policy engine that obeys all that these changes would bring. What is in force already,
    /// written again, brings nothing.
    fn engine_needed(&self, changes: &Changes) -> u32 {
        let snapshot = self.registry.snapshot();
        let is_news = |resource: &&Resource| {
            let known = snapshot.object(&resource.key());
            known.is_none_or(|known| **known.resource != **resource)
        };
        let news = changes.upserts.iter().filter(is_news);
        news.map(Resource::engine_version).max().unwrap_or(1)
    }
}

pub(super) fn reason(
    given: Option<String>,
    otherwise: impl FnOnce() -> String,
) -> Result<String, Problem> {
    let reason = given.unwrap_or_else(otherwise);
    if reason.len() > LONGEST_REASON || reason.chars().any(char::is_control) {
        let detail = format!("a reason is one line of at most {LONGEST_REASON} bytes");
        return Err(Problem::invalid("invalid-value", detail).at("/reason"));
    }
    Ok(reason)
}

/// The object, and the `revision` that it was read at, where the body says so.
pub(super) fn object_of_json(mut json: Value) -> Result<(Resource, Option<Revision>), Problem> {
    // What was read may be written again: what the CA added is no wish of the author's.
    let read_at = json.as_object_mut().and_then(|fields| {
        fields.remove("status");
        fields.remove("revision")
    });
    let read_at = read_at.map(|revision| {
        let text = revision.as_str().and_then(|text| text.parse().ok());
        text.ok_or_else(|| {
            Problem::invalid("invalid-value", "`revision` is not a revision").at("/revision")
        })
    });
    Ok((policy::parse_json(&json)?, read_at.transpose()?))
}

fn one_object(body: &Body) -> Result<(Resource, Option<Revision>), Problem> {
    if body.format == Format::Json {
        return object_of_json(body.json()?);
    }
    let mut objects = policy::parse_documents(body.text()?)?.into_iter();
    match (objects.next(), objects.next()) {
        (Some(object), None) => Ok((object, None)),
        _ => Err(
            Problem::invalid("one-object", "the body of a PUT is exactly one object")
                .suggest("post several objects to /v1/changesets"),
        ),
    }
}

fn require_key(wanted: &ObjectKey, resource: &Resource) -> Result<(), Problem> {
    let given = resource.key();
    let pointer = if given.kind != wanted.kind {
        "/kind"
    } else if given.namespace != wanted.namespace {
        "/metadata/namespace"
    } else if given.name != wanted.name {
        "/metadata/name"
    } else {
        return Ok(());
    };
    let detail = format!("the body is {given}, the path names {wanted}");
    Err(Problem::invalid("name-mismatch", detail).at(pointer))
}

/// The key of the object that a path names.
pub(super) fn key(kind: Kind, namespace: Option<&str>, name: &str) -> Result<ObjectKey, Problem> {
    let namespace = namespace.map(|text| parse("namespace", text));
    Ok(ObjectKey {
        kind,
        namespace: namespace.transpose()?,
        name: parse("name", name)?,
    })
}

fn key_of_path(kind: Kind, text: &str) -> Result<ObjectKey, Problem> {
    match text.split_once('/') {
        Some((namespace, name)) if kind.is_namespaced() => key(kind, Some(namespace), name),
        None if !kind.is_namespaced() => key(kind, None, text),
        _ => Err(Problem::bad_request(
            "bad-query",
            "`after` is not the `next` of a page",
        )),
    }
}

fn path_of_key(key: &ObjectKey) -> String {
    match &key.namespace {
        Some(namespace) => format!("{namespace}/{}", key.name),
        None => key.name.to_string(),
    }
}

fn representation(object: &RegistryObject<'_>) -> Value {
    with_status(object.resource.to_json(), object.revision, object.addresses)
}

/// What the CA adds to an object: when it changed, and a Service's addresses.
fn with_status(mut json: Value, revision: Revision, addresses: Option<ServiceAddresses>) -> Value {
    if let Some(fields) = json.as_object_mut() {
        fields.insert("revision".to_owned(), Value::String(revision.to_string()));
        if let Some(addresses) = addresses {
            let texts: Vec<String> = addresses.iter().map(|it| it.to_string()).collect();
            fields.insert("status".to_owned(), json!({ "addresses": texts }));
        }
    }
    json
}
