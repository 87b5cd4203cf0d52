//! Authorities: where each is in its life, who has not acknowledged, and the wish for a successor.

mod recovery;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::recovery::{__path_publish_update, __path_show_recovery, publish_update, show_recovery};
use super::auth::Administrator;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::problem::Problem;
use super::timestamp::Timestamp;
use crate::authority::PublishedRoots;
use crate::authority::RootError;
use crate::authority::lifecycle::{Event, Generation, Member, Phase, Refusal, Trigger};
use crate::nesting::NestingStanding;
use crate::recovery::Recovery;
use crate::registry::Registry;
use crate::rotation::{Progress, Rotation, RotationError};
use crate::store::{IntermediateRow, Store};
use runtime::Clock;

/// Between a compromise and the end of all trust, when nobody says.
const WITHIN: Duration = Duration::from_secs(5 * 60);
const LONGEST_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Shows authorities, and has them rotated.
#[derive(Clone, Debug)]
pub(super) struct Authorities {
    pub(super) rotation: Rotation,
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) recovery: Recovery,
    pub(super) nesting: Option<NestingStanding>,
    pub(super) clock: Clock,
}

pub(super) fn operations(authorities: Authorities) -> Documented {
    Documented::new()
        .on(&__path_list_authorities, list_authorities)
        .on(&__path_rotate_authority, rotate_authority)
        .on(&__path_show_recovery, show_recovery)
        .on(&__path_publish_update, publish_update)
        .with(authorities)
}

/// All authorities, and how far a rotation has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuthorityList {
    items: Vec<AuthorityView>,
    /// Of the bundle in force; grows with its content.
    bundle_sequence: u64,
    /// Nothing is under way.
    settled: bool,
    /// Agents that know its key recover by a bundle update when a root that they trust is removed
    /// while they are away; without one they must be joined again.
    recovery_key: bool,
    /// Live agents that have not acknowledged the bundle in force.
    pending: Vec<PendingView>,
    /// Instances below this one that do not follow the bundle in force yet, with all their agents.
    pending_downstreams: Vec<PendingDownstreamView>,
    intermediates: Vec<IntermediateView>,
    /// Absent unless the roots are those of another instance of Countersign.
    upstream: Option<UpstreamView>,
}

/// One authority of the trust domain.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuthorityView {
    /// `x509-root`.
    kind: &'static str,
    /// Counts the authorities of its kind.
    generation: u32,
    /// `prepared`, `published`, `active`, `draining` or `removed`.
    phase: &'static str,
    /// When it came to this phase.
    since: Timestamp,
    /// `schedule`, `operator` or `compromise`: why it was made.
    trigger: &'static str,
    /// SHA-256 of the certificate, in hex; none of one that is removed.
    sha256: Option<String>,
    not_before: Timestamp,
    not_after: Timestamp,
    /// When a successor is prepared.
    rotates_at: Timestamp,
    /// Of a published one: it signs from then on at the earliest.
    activates_from: Option<Timestamp>,
    /// Of a published one: then it signs even if live agents have not acknowledged.
    activates_by: Option<Timestamp>,
    /// The end of the last recorded leaf that leads to it.
    leaves_until: Option<Timestamp>,
    compromised: Option<CompromisedView>,
}

/// Somebody else may hold its key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CompromisedView {
    at: Timestamp,
    /// Then it is removed even if live agents have not acknowledged.
    until: Timestamp,
    /// Agents have been told to replace what leads to it.
    replacing: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PendingView {
    agent: String,
    /// Of the bundle that it has acknowledged; 0 for none.
    bundle_sequence: u64,
}

/// How it goes with the instance above, as this replica knows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpstreamView {
    /// When it answered last; absent if it has not since this replica started.
    heard_at: Option<Timestamp>,
    /// Why it is not followed right now; absent while all is well.
    failure: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PendingDownstreamView {
    name: String,
    /// Of the bundle that it follows; 0 for none.
    bundle_sequence: u64,
}

/// What signs leaves, one or more for each replica.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IntermediateView {
    replica: String,
    /// By which issuance records name it.
    key_id: String,
    /// The generation of its root.
    root: u32,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What is to become of the authorities.
#[derive(Debug, Deserialize, ToSchema)]
struct RotationRequest {
    /// Somebody else may hold the key: it is replaced at once, and trusted at most for `within`.
    #[serde(default)]
    compromised: bool,
    /// Such as `5m`, which is also meant when it is left out; at most 24 hours.
    within: Option<String>,
    /// The generation that is compromised; the active one when left out.
    generation: Option<u32>,
}

impl Fields for RotationRequest {
    const FIELDS: &'static [&'static str] = &["compromised", "within", "generation"];
}

/// Lists the authorities, and who has not acknowledged the bundle in force.
#[utoipa::path(get, path = "/v1/authorities", tag = "authorities",
    responses((status = 200, body = AuthorityList)))]
async fn list_authorities(
    State(authorities): State<Authorities>,
) -> Result<Json<AuthorityList>, Problem> {
    authorities.list().await.map(Json)
}

/// Begins a rotation of the root, which goes on by itself.
#[utoipa::path(post, path = "/v1/authorities/rotation", tag = "authorities",
    request_body = RotationRequest, responses((status = 202, body = AuthorityList)))]
async fn rotate_authority(
    State(authorities): State<Authorities>,
    author: Administrator,
    JsonBody(request): JsonBody<RotationRequest>,
) -> Result<(StatusCode, Json<AuthorityList>), Problem> {
    let event = authorities.event(&request)?;
    authorities.rotation.wish(&event, author.author()).await?;
    Ok((StatusCode::ACCEPTED, Json(authorities.list().await?)))
}

impl Authorities {
    fn event(&self, request: &RotationRequest) -> Result<Event, Problem> {
        if !request.compromised {
            let only = [
                ("within", request.within.is_some()),
                ("generation", request.generation.is_some()),
            ];
            if let Some((field, _)) = only.into_iter().find(|(_, given)| *given) {
                let detail = format!("{field} goes with compromised = true only");
                return Err(invalid(field, detail));
            }
            return Ok(Event::Rotate);
        }
        let generation = match request.generation {
            Some(number) => Generation::of_number(number)
                .ok_or_else(|| invalid("generation", "generations count from 1".to_owned()))?,
            None => self
                .registry
                .snapshot()
                .roots()
                .active()
                .map(|(generation, _)| generation)
                .ok_or_else(Problem::internal)?,
        };
        let within = within(request.within.as_deref())?;
        Ok(Event::Compromised { generation, within })
    }

    async fn list(&self) -> Result<AuthorityList, Problem> {
        let progress = self.rotation.progress().await?;
        // Another replica may have made the last step. Who reads of a root is told of it beside the
        // answer too: the next connection may lead to it.
        self.registry.look().await?;
        let roots = self.registry.snapshot().roots().clone();
        let members = progress.lifecycle.members().iter();
        let pending = progress.pending.iter().map(|agent| PendingView {
            agent: agent.spiffe_id.to_string(),
            bundle_sequence: agent.bundle_sequence,
        });
        let below = progress
            .pending_below
            .iter()
            .map(|it| PendingDownstreamView {
                name: it.name.clone(),
                bundle_sequence: it.bundle_sequence,
            });
        let intermediates = self.store.intermediates(self.clock.now()).await?;
        Ok(AuthorityList {
            items: members
                .map(|member| view(member, &progress, &roots))
                .collect(),
            bundle_sequence: progress.lifecycle.sequence(),
            settled: progress.lifecycle.is_settled(),
            recovery_key: self.recovery.key().is_some(),
            pending: pending.collect(),
            pending_downstreams: below.collect(),
            intermediates: intermediates.into_iter().map(intermediate).collect(),
            upstream: self.nesting.as_ref().map(upstream),
        })
    }
}

fn within(text: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = text else {
        return Ok(WITHIN);
    };
    let within =
        humantime::parse_duration(text).map_err(|error| invalid("within", error.to_string()))?;
    if within > LONGEST_WITHIN {
        return Err(invalid("within", "within is at most 24 hours".to_owned()));
    }
    Ok(within)
}

fn invalid(field: &str, detail: String) -> Problem {
    Problem::invalid("invalid-value", detail).at(format!("/{field}"))
}

fn view(member: &Member, progress: &Progress, roots: &PublishedRoots) -> AuthorityView {
    let published = member.phase == Phase::Published;
    let deadline = progress.lifecycle.deadline(&progress.rules);
    let leaves = progress.leaves_until.get(&member.generation);
    AuthorityView {
        kind: "x509-root",
        generation: member.generation.number(),
        phase: member.phase.as_str(),
        since: member.since.into(),
        trigger: match member.trigger {
            Trigger::Schedule => "schedule",
            Trigger::Operator => "operator",
            Trigger::Compromise => "compromise",
        },
        sha256: roots
            .certificate(member.generation)
            .map(|root| root.digest().to_string()),
        not_before: member.not_before.into(),
        not_after: member.not_after.into(),
        rotates_at: member.due_at().into(),
        activates_from: member
            .activates_from
            .filter(|_| published)
            .map(Timestamp::from),
        activates_by: published.then(|| deadline.into()),
        leaves_until: leaves.copied().map(Timestamp::from),
        compromised: member.taint.map(|taint| CompromisedView {
            at: taint.at.into(),
            until: taint.until.into(),
            replacing: taint.reissued_in.is_some(),
        }),
    }
}

fn upstream(standing: &NestingStanding) -> UpstreamView {
    let heard = standing.heard();
    UpstreamView {
        heard_at: heard.at.map(Timestamp::from),
        failure: heard.failure.clone(),
    }
}

fn intermediate(row: IntermediateRow) -> IntermediateView {
    IntermediateView {
        replica: row.replica,
        key_id: row.key_id,
        root: row.generation,
        not_before: row.not_before.into(),
        not_after: row.not_after.into(),
    }
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        let detail = error.to_string();
        match error {
            RotationError::Refused(refusal) => refused(refusal, detail),
            RotationError::Store(error) => error.into(),
            RotationError::Apply(error) => error.into(),
            RotationError::Contended => Self::unavailable("contended", detail),
            RotationError::Root(error @ RootError::SameRoot) => {
                Self::conflict("upstream-unchanged", error.to_string())
            }
            RotationError::Root(error) => {
                let cause = runtime::exit::one_line(&error);
                tracing::error!(cause, "the roots cannot be used");
                Self::unavailable(
                    "root-unavailable",
                    "the sealed roots cannot be used right now",
                )
            }
        }
    }
}

fn refused(refusal: Refusal, detail: String) -> Problem {
    match refusal {
        Refusal::InProgress(..) => Problem::conflict("rotation-in-progress", detail)
            .suggest("`countersign authority list` shows how far it has come"),
        Refusal::Unknown(_) => Problem::invalid("unknown-authority", detail).at("/generation"),
        Refusal::Removed(_) => Problem::conflict("authority-removed", detail),
        Refusal::Tainted(_) => Problem::conflict("authority-compromised", detail),
        Refusal::MadeBefore(_) => Problem::unavailable("contended", detail),
    }
}
