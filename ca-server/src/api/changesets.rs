//! Changesets: many objects at once, all or nothing.

use axum::Json;
use axum::extract::State;
use policy::{Kind, ObjectKey, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Administrator;
use super::body::{Body, Fields, Format, read};
use super::documented::Documented;
use super::objects::{Objects, object_of_json, reason};
use super::problem::Problem;
use super::query::Parameters;
use super::schema::AnyObject;
use crate::registry::Applied;
use crate::store::{Changes, Expected, Precondition};

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_apply_changeset, apply_changeset)
        .with(objects)
}

/// Objects to write and to delete.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Changeset {
    /// Kept with the revision; one line of at most 500 bytes.
    reason: Option<String>,
    /// Objects to create or replace. One with a `revision` is written only if that still is the
    /// revision that last changed it.
    #[serde(default)]
    #[schema(value_type = Vec<AnyObject>)]
    apply: Vec<Value>,
    #[serde(default)]
    delete: Vec<ObjectName>,
    /// Judge it, and write nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Names one object.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ObjectName {
    kind: String,
    /// Left out for a Baseline.
    namespace: Option<String>,
    name: String,
}

/// For a body that is objects only (YAML).
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ChangesetQuery {
    /// As in the JSON form.
    reason: Option<String>,
    /// As in the JSON form.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a changeset.
#[derive(Debug, Serialize, ToSchema)]
struct ChangesetResult {
    /// What is in force afterwards.
    revision: String,
    /// Whether it made a revision (as a dry run: would have).
    changed: bool,
    objects: Vec<ObjectOutcome>,
}

/// What became of one object.
#[derive(Debug, Serialize, ToSchema)]
struct ObjectOutcome {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    #[schema(example = "created")]
    outcome: &'static str,
}

impl Fields for Changeset {
    const FIELDS: &'static [&'static str] = &["reason", "apply", "delete", "dryRun"];
}

/// Writes and deletes many objects as one revision. A YAML body is the objects to write, one a
/// document.
#[utoipa::path(post, path = "/v1/changesets", tag = "changesets", params(ChangesetQuery),
    request_body(content((Changeset = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = ChangesetResult)))]
async fn apply_changeset(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ChangesetQuery>,
    author: Administrator,
    body: Body,
) -> Result<Json<ChangesetResult>, Problem> {
    let (changes, given_reason, dry_run) = match body.format {
        Format::Yaml => {
            let upserts = policy::parse_documents(body.text()?)?;
            (
                Changes {
                    upserts,
                    ..Changes::default()
                },
                query.reason,
                query.dry_run,
            )
        }
        Format::Json => {
            let changeset: Changeset = read(body.json()?)?;
            let (reason, dry_run) = (changeset.reason.clone(), changeset.dry_run);
            let (reason, dry_run) = (reason.or(query.reason), dry_run || query.dry_run);
            (changes(changeset)?, reason, dry_run)
        }
    };
    let reason = reason(given_reason, || "changeset".to_owned())?;
    Ok(Json(result(
        objects.write(changes, &author, reason, dry_run).await?,
    )))
}

fn changes(changeset: Changeset) -> Result<Changes, Problem> {
    let mut changes = Changes::default();
    for (index, json) in changeset.apply.into_iter().enumerate() {
        let (resource, read_at) =
            object_of_json(json).map_err(|problem| problem.within(&format!("/apply/{index}")))?;
        changes
            .preconditions
            .extend(read_at.map(|revision| Precondition {
                key: resource.key(),
                expected: Expected::AnyOf(vec![revision]),
            }));
        changes.upserts.push(resource);
    }
    for (index, name) in changeset.delete.into_iter().enumerate() {
        let key = key(&name).map_err(|problem| problem.within(&format!("/delete/{index}")))?;
        changes.deletes.push(key);
    }
    Ok(changes)
}

fn key(object: &ObjectName) -> Result<ObjectKey, Problem> {
    let invalid = |field: &str, why: String| {
        Problem::invalid("invalid-value", format!("{field}: {why}")).at(format!("/{field}"))
    };
    let kind: Kind = object
        .kind
        .parse()
        .map_err(|error: policy::KindError| invalid("kind", error.to_string()))?;
    if object.namespace.is_some() != kind.is_namespaced() {
        let rule = if kind.is_namespaced() {
            "needs one"
        } else {
            "takes none"
        };
        return Err(invalid("namespace", format!("a {kind} {rule}")));
    }
    let namespace = object.namespace.as_deref().map(str::parse).transpose();
    Ok(ObjectKey {
        kind,
        namespace: namespace
            .map_err(|error: identity::NameError| invalid("namespace", error.to_string()))?,
        name: object
            .name
            .parse()
            .map_err(|error: identity::NameError| invalid("name", error.to_string()))?,
    })
}

fn result(applied: Applied) -> ChangesetResult {
    let objects = applied
        .outcomes
        .into_iter()
        .map(|(key, outcome)| ObjectOutcome {
            kind: key.kind.as_str(),
            namespace: key.namespace.map(|namespace| namespace.to_string()),
            name: key.name.to_string(),
            outcome: match outcome {
                Outcome::Created => "created",
                Outcome::Updated => "updated",
                Outcome::Unchanged => "unchanged",
                Outcome::Deleted => "deleted",
                Outcome::Absent => "absent",
            },
        });
    ChangesetResult {
        revision: applied.revision.to_string(),
        changed: applied.changed,
        objects: objects.collect(),
    }
}
