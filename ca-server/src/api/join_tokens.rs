//! Join tokens: made for agents by name, shown once, and tied to the workloads they are for.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::random::{Random, SystemRandom};
use data_encoding::HEXLOWER;
use identity::join_token::CaAddress;
use identity::{AgentId, JoinToken, QualifiedName};
use policy::resource::NamedAgents;
use policy::{Kind, ObjectKey, Resource};
use runtime::Clock;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::auth::Administrator;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::objects::Objects;
use super::problem::Problem;
use super::query::Segments;
use super::timestamp::Timestamp;
use crate::attest::JOIN_TOKEN;
use crate::store::{
    Changes, Cidr, Expected, JoinTokenRow, JoinTokenState, NewJoinToken, Precondition, Store,
};

const LONGEST_TTL: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const MOST_TOKENS: u32 = 100;
/// How often entries are read again because somebody else wrote them meanwhile.
const ATTEMPTS: usize = 4;

/// Makes, lists and deletes join tokens.
#[derive(Clone, Debug)]
pub(super) struct JoinTokens {
    pub(super) objects: Objects,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) addresses: Vec<CaAddress>,
}

pub(super) fn operations(join_tokens: JoinTokens) -> Documented {
    Documented::new()
        .on(&__path_create_join_tokens, create_join_tokens)
        .on(&__path_list_join_tokens, list_join_tokens)
        .on(&__path_delete_join_token, delete_join_token)
        .with(join_tokens)
}

/// For whom tokens are.
#[derive(Debug, Deserialize, ToSchema)]
struct JoinTokenRequest {
    /// Name of the agent; `-1`, `-2` … are appended when `count` is above one.
    agent: String,
    /// `namespace/name` of the workloads whose entries get the agents added.
    #[serde(default)]
    workloads: Vec<String>,
    /// 1 to 100; 1 when left out.
    #[serde(default = "one")]
    count: u32,
    /// Such as `10m`, which is also meant when it is left out; at most 7 days.
    ttl: Option<String>,
    /// Where the tokens may be used from, such as `10.0.0.0/8`; anywhere when left out.
    cidr: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct NewJoinTokens {
    tokens: Vec<NewJoinTokenView>,
}

/// A token: the only time that it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewJoinTokenView {
    id: String,
    agent_id: String,
    token: String,
    expires_at: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
struct JoinTokenList {
    items: Vec<JoinTokenView>,
}

/// A token without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JoinTokenView {
    id: String,
    agent_id: String,
    author: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    cidr: Option<String>,
    redeemed_at: Option<Timestamp>,
}

impl Fields for JoinTokenRequest {
    const FIELDS: &'static [&'static str] = &["agent", "workloads", "count", "ttl", "cidr"];
}

/// Makes join tokens.
#[utoipa::path(post, path = "/v1/join-tokens", tag = "join-tokens", request_body = JoinTokenRequest,
    responses((status = 201, body = NewJoinTokens)))]
async fn create_join_tokens(
    State(join_tokens): State<JoinTokens>,
    author: Administrator,
    JsonBody(request): JsonBody<JoinTokenRequest>,
) -> Result<(StatusCode, Json<NewJoinTokens>), Problem> {
    let agents = join_tokens.agents(&request)?;
    let workloads = names(&request.workloads)?;
    let ttl = ttl(request.ttl.as_deref())?;
    let cidr = request.cidr.as_deref().map(str::parse::<Cidr>).transpose();
    let cidr = cidr.map_err(|error| invalid("/cidr", error.to_string()))?;
    let now = join_tokens.clock.now();
    let mut views = Vec::new();
    let mut rows = Vec::new();
    for agent in &agents {
        let token = join_tokens.generate()?;
        rows.push(NewJoinToken {
            id: token.id().to_owned(),
            secret_sha256: token.secret_digest(),
            agent_id: agent.spiffe_id().clone(),
            cidr,
            author: author.author(),
            created_at: now,
            expires_at: now + ttl,
        });
        views.push(view_once(agent, &token, now + ttl));
    }
    join_tokens.admit(&agents, &workloads, &author).await?;
    join_tokens.store.create_join_tokens(rows).await?;
    Ok((StatusCode::CREATED, Json(NewJoinTokens { tokens: views })))
}

/// Lists join tokens, without their secrets.
#[utoipa::path(get, path = "/v1/join-tokens", tag = "join-tokens",
    responses((status = 200, body = JoinTokenList)))]
async fn list_join_tokens(
    State(join_tokens): State<JoinTokens>,
) -> Result<Json<JoinTokenList>, Problem> {
    let rows = join_tokens.store.join_tokens().await?;
    Ok(Json(JoinTokenList {
        items: rows.iter().map(view).collect(),
    }))
}

/// Deletes a join token; nobody can use it afterwards.
#[utoipa::path(delete, path = "/v1/join-tokens/{id}", tag = "join-tokens",
    params(("id" = String, Path)), responses((status = 204)))]
async fn delete_join_token(
    State(join_tokens): State<JoinTokens>,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    match join_tokens.store.delete_join_token(&id).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("join token {id}"))),
    }
}

impl JoinTokens {
    fn agents(&self, request: &JoinTokenRequest) -> Result<Vec<AgentId>, Problem> {
        if !(1..=MOST_TOKENS).contains(&request.count) {
            return Err(invalid(
                "/count",
                format!("count is between 1 and {MOST_TOKENS}"),
            ));
        }
        let name = |index: u32| match request.count {
            1 => request.agent.clone(),
            _ => format!("{}-{index}", request.agent),
        };
        (1..=request.count)
            .map(|index| AgentId::new(self.store.trust_domain(), JOIN_TOKEN, &name(index)))
            .collect::<Result<_, _>>()
            .map_err(|error| invalid("/agent", error.to_string()))
    }

    fn generate(&self) -> Result<JoinToken, Problem> {
        let mut random = SystemRandom;
        let id = HEXLOWER.encode(&random.bytes::<8>());
        let snapshot = self.objects.registry().snapshot();
        let roots = snapshot
            .roots()
            .bundle()
            .authorities()
            .iter()
            .map(|root| root.digest())
            .collect();
        let (trust_domain, addresses) = (self.store.trust_domain().clone(), self.addresses.clone());
        JoinToken::generate(&id, trust_domain, addresses, roots, &mut random).map_err(|error| {
            tracing::error!(%error, "cannot make a join token");
            Problem::internal()
        })
    }

    /// Adds `agents` to the entries of `workloads`, as one revision.
    async fn admit(
        &self,
        agents: &[AgentId],
        workloads: &[QualifiedName],
        author: &Administrator,
    ) -> Result<(), Problem> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            let changes = self.changes(agents, workloads)?;
            if changes.upserts.is_empty() {
                return Ok(());
            }
            let reason = format!("join token for {}", agents[0]);
            let written = self.objects.write(changes, author, reason, false).await;
            match written {
                Err(problem) if problem.is_precondition() && attempts.next().is_some() => {}
                result => return result.map(drop),
            }
        }
    }

    fn changes(&self, agents: &[AgentId], workloads: &[QualifiedName]) -> Result<Changes, Problem> {
        let snapshot = self.objects.registry().snapshot();
        let mut changes = Changes::default();
        for (index, name) in workloads.iter().enumerate() {
            let key = ObjectKey::namespaced(Kind::Workload, name);
            let object = snapshot.object(&key).ok_or_else(|| {
                let pointer = format!("/workloads/{index}");
                Problem::invalid("unknown-workload", format!("there is no {key}")).at(pointer)
            })?;
            let Resource::Workload(workload) = object.resource.as_ref() else {
                continue;
            };
            let mut workload = workload.clone();
            for agent in agents.iter().map(AgentId::spiffe_id) {
                let entry = NamedAgents::Id(agent.clone());
                if !workload.agents.contains(&entry) {
                    workload.agents.push(entry);
                }
            }
            changes.upserts.push(Resource::Workload(workload));
            let expected = Expected::AnyOf(vec![object.revision]);
            changes.preconditions.push(Precondition { key, expected });
        }
        Ok(changes)
    }
}

fn one() -> u32 {
    1
}

fn invalid(pointer: &str, detail: String) -> Problem {
    Problem::invalid("invalid-value", detail).at(pointer)
}

fn names(texts: &[String]) -> Result<Vec<QualifiedName>, Problem> {
    let mut names = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let name = text
            .parse()
            .map_err(|error: identity::QualifiedNameError| {
                invalid(&format!("/workloads/{index}"), error.to_string())
            })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn ttl(text: Option<&str>) -> Result<Duration, Problem> {
    let ttl = humantime::parse_duration(text.unwrap_or("10m"))
        .map_err(|error| invalid("/ttl", error.to_string()))?;
    if ttl < Duration::from_secs(1) || ttl > LONGEST_TTL {
        return Err(invalid(
            "/ttl",
            "a join token lives between 1 s and 7 days".to_owned(),
        ));
    }
    Ok(ttl)
}

fn view_once(agent: &AgentId, token: &JoinToken, expires_at: OffsetDateTime) -> NewJoinTokenView {
    NewJoinTokenView {
        id: token.id().to_owned(),
        agent_id: agent.to_string(),
        token: token.to_string(),
        expires_at: expires_at.into(),
    }
}

fn view(row: &JoinTokenRow) -> JoinTokenView {
    let token = &row.token;
    JoinTokenView {
        id: token.id.clone(),
        agent_id: token.agent_id.to_string(),
        author: token.author.clone(),
        created_at: token.created_at.into(),
        expires_at: token.expires_at.into(),
        cidr: token.cidr.map(|cidr| cidr.to_string()),
        redeemed_at: match row.state {
            JoinTokenState::Unused => None,
            JoinTokenState::Redeemed { at, .. } => Some(at.into()),
        },
    }
}
