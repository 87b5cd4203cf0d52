//! What an instance of Countersign below this one may ask for with its own secret: an authority, the
//! bundle that it must follow, and that it is known to follow it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::digest::Sha256;
use crypto::signing::{CsrError, verify_csr};
use data_encoding::BASE64;
use identity::x509::{Denied, UnverifiedIssuingChain};
use runtime::Clock;

use super::auth::BelowUs;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::problem::Problem;
use crate::authority::lifecycle::Phase;
use crate::authority::{RootError, RootKeeper};
use crate::clock_check::ClockCheck;
use crate::nesting::wire::{
    AuthorityAbove, AuthorityRequest, BundleAbove, CompromisedAbove, Followed, PhaseAbove,
    RevokedAbove, RootAbove,
};
use crate::registry::Registry;
use crate::rotation::Rotation;
use crate::store::{Downstream, DownstreamAuthorityRow, Store};

/// Authorities of one instance at once; each of its renewals adds one until the oldest ends.
const MOST_AUTHORITIES: usize = 32;

/// Signs for instances below this one.
#[derive(Clone, Debug)]
pub(super) struct Nests {
    pub(super) keeper: RootKeeper,
    pub(super) rotation: Rotation,
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) clock_check: ClockCheck,
}

pub(super) fn operations(nests: Nests) -> Documented {
    Documented::new()
        .on(&__path_sign_authority, sign_authority)
        .on(&__path_show_bundle, show_bundle)
        .on(&__path_note_followed, note_followed)
        .with(nests)
}

impl Fields for AuthorityRequest {
    const FIELDS: &'static [&'static str] = &["csr"];
}

impl Fields for Followed {
    const FIELDS: &'static [&'static str] = &["sequence"];
}

/// Signs an authority for an instance below this one; the same again for the same key.
#[utoipa::path(post, path = "/v1/downstream/authority", tag = "downstreams",
    security(("downstream" = [])), request_body = AuthorityRequest,
    responses((status = 200, body = AuthorityAbove)))]
async fn sign_authority(
    State(nests): State<Nests>,
    BelowUs(downstream): BelowUs,
    JsonBody(request): JsonBody<AuthorityRequest>,
) -> Result<Json<AuthorityAbove>, Problem> {
    nests.clock_check.require().map_err(|error| {
        let why = runtime::exit::one_line(&error);
        Problem::unavailable("clock-off", why)
    })?;
    let der = BASE64.decode(request.csr.as_bytes());
    let der = der.map_err(|error| invalid(format!("the request is not base64: {error}")))?;
    let public_key = verify_csr(&der).map_err(|error: CsrError| invalid(error.to_string()))?;
    let now = nests.clock.now();
    nests.require_unrevoked(public_key.fingerprint()).await?;
    let known = nests.store.downstream_authorities(now).await?;
    let key_id = public_key.fingerprint().to_string();
    let mut own = known.iter().filter(|it| it.downstream == downstream.name());
    if let Some(signed) = own.clone().find(|it| it.key_id == key_id) {
        return answer(signed);
    }
    if own.by_ref().count() >= MOST_AUTHORITIES {
        let detail = format!("{MOST_AUTHORITIES} authorities of this downstream have not ended");
        return Err(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-authorities",
            detail,
        ));
    }
    let roots = nests.registry.snapshot().roots().clone();
    let signed = nests
        .keeper
        .sign_downstream(&roots, &downstream, public_key, now)
        .await
        .map_err(not_signed)?;
    tracing::info!(
        downstream = downstream.name(),
        key_id,
        ends = %signed.validity.not_after(),
        "an authority was signed for an instance below this one"
    );
    answer(&signed)
}

/// Shows the roots that an instance below must follow, and which of its authorities are revoked.
#[utoipa::path(get, path = "/v1/downstream/bundle", tag = "downstreams",
    security(("downstream" = [])), responses((status = 200, body = BundleAbove)))]
async fn show_bundle(
    State(nests): State<Nests>,
    BelowUs(downstream): BelowUs,
) -> Result<Json<BundleAbove>, Problem> {
    nests.bundle(&downstream).await.map(Json)
}

/// Notes which bundle an instance below this one follows, with every live agent of its own.
#[utoipa::path(put, path = "/v1/downstream/followed", tag = "downstreams",
    security(("downstream" = [])), request_body = Followed, responses((status = 204)))]
async fn note_followed(
    State(nests): State<Nests>,
    BelowUs(downstream): BelowUs,
    JsonBody(Followed { sequence }): JsonBody<Followed>,
) -> Result<StatusCode, Problem> {
    let last = nests.rotation.lifecycle().await?.sequence();
    if sequence > last {
        let detail = format!("the bundle in force is {last}");
        return Err(Problem::invalid("unknown-bundle", detail).at("/sequence"));
    }
    nests
        .store
        .note_downstream_bundle(&downstream, sequence)
        .await?;
    nests.rotation.look();
    Ok(StatusCode::NO_CONTENT)
}

impl Nests {
    /// The state and the certificates are of one moment: a root that is not in the snapshot yet is
    /// not told of.
    async fn bundle(&self, downstream: &Downstream) -> Result<BundleAbove, Problem> {
        let lifecycle = self.rotation.lifecycle().await?;
        self.registry.look().await?;
        let snapshot = self.registry.snapshot();
        let roots = snapshot.roots().clone();
        let known = self.store.downstream_authorities(self.clock.now()).await?;
        let own = known.iter().filter(|it| it.downstream == downstream.name());
        let revoked = own.filter(|it| it.is_refused_by(snapshot.denials().list()));
        let revoked = revoked.map(|it| RevokedAbove {
            key_id: it.key_id.clone(),
            until: it.validity.not_after(),
        });
        let bundled = lifecycle.bundled().filter_map(|member| {
            let root = roots.certificate(member.generation)?;
            Some(RootAbove {
                certificate: BASE64.encode(root.der()),
                phase: match member.phase {
                    Phase::Active => PhaseAbove::Active,
                    Phase::Draining => PhaseAbove::Draining,
                    Phase::Prepared | Phase::Published | Phase::Removed => PhaseAbove::Published,
                },
                compromised: member.taint.map(|taint| CompromisedAbove {
                    until: taint.until,
                    replacing: member.is_reissued(),
                }),
            })
        });
        Ok(BundleAbove {
            trust_domain: self.store.trust_domain().to_string(),
            sequence: lifecycle.sequence(),
            roots: bundled.collect(),
            revoked_authorities: revoked.collect(),
        })
    }

    /// Nobody would accept what leads to it.
    async fn require_unrevoked(&self, key: Sha256) -> Result<(), Problem> {
        self.registry.look().await?;
        let snapshot = self.registry.snapshot();
        match snapshot.denials().list().contains(&Denied::Authority(key)) {
            false => Ok(()),
            true => Err(Problem::conflict(
                "authority-revoked",
                "the authority of this key is revoked; another key is needed",
            )),
        }
    }
}

fn answer(signed: &DownstreamAuthorityRow) -> Result<Json<AuthorityAbove>, Problem> {
    let chain = UnverifiedIssuingChain::from_concatenated_der(&signed.chain);
    let chain = chain.map_err(|_| Problem::internal())?;
    let certificates = chain.certificates().iter().map(|der| BASE64.encode(der));
    Ok(Json(AuthorityAbove {
        certificates: certificates.collect(),
    }))
}

fn invalid(detail: String) -> Problem {
    Problem::invalid("invalid-value", detail).at("/csr")
}

fn not_signed(error: RootError) -> Problem {
    let why = runtime::exit::one_line(&error);
    match error {
        RootError::Store(error) => error.into(),
        RootError::NoRoom(_) => Problem::conflict("no-room-below", why),
        _ => {
            tracing::error!(error = why, "no authority was signed for an instance below");
            let detail = "the sealed roots cannot be used right now";
            Problem::unavailable("root-unavailable", detail)
        }
    }
}
