//! What may be revoked, and until when: what is not known here, has ended, or carries the operators
//! themselves is refused.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId, is_ca_id};
use time::OffsetDateTime;

use super::Revocations;
use crate::api::problem::Problem;
use crate::store::RevocationSubject;

/// The path under which identities are the CA's own to give.
const RESERVED: &str = "/countersign/";

impl Revocations {
    /// When the revocation will leave by itself.
    pub(super) async fn judge(
        &self,
        subject: &RevocationSubject,
    ) -> Result<Option<OffsetDateTime>, Problem> {
        match subject {
            RevocationSubject::Agent(id) => self.judge_agent(id).map(|()| None),
            RevocationSubject::Identity(id) => judge_identity(id).map(|()| None),
            RevocationSubject::Serial(serial) => self.judge_serial(*serial).await.map(Some),
            RevocationSubject::Authority(key) => self.judge_authority(*key).await.map(Some),
        }
    }

    /// As [`Self::judge`], of what can be told without the store.
    pub(super) fn judge_without_store(
        &self,
        subject: &RevocationSubject,
    ) -> Result<Option<OffsetDateTime>, Problem> {
        match subject {
            RevocationSubject::Agent(id) => self.judge_agent(id).map(|()| None),
            RevocationSubject::Identity(id) => judge_identity(id).map(|()| None),
            RevocationSubject::Authority(key) => match self.judge_root(*key)? {
                Some(end) => Ok(Some(end)),
                None => Err(only_the_store_knows()),
            },
            RevocationSubject::Serial(_) => Err(only_the_store_knows()),
        }
    }

    fn judge_agent(&self, id: &SpiffeId) -> Result<(), Problem> {
        match id.trust_domain() == self.store.trust_domain() {
            true => Ok(()),
            false => Err(invalid(
                "other-trust-domain",
                "agents are of this trust domain",
            )),
        }
    }

    async fn judge_serial(&self, serial: SerialNumber) -> Result<OffsetDateTime, Problem> {
        let issued = self.store.issued_with(serial).await?;
        let issued = issued.ok_or_else(|| {
            invalid(
                "unknown-serial",
                "no certificate with this number was issued here",
            )
            .suggest("GET /v1/svids lists what was")
        })?;
        if is_ca_id(&issued.spiffe_id, self.store.trust_domain()) {
            return Err(invalid(
                "reserved-identity",
                "it is a certificate that the CA itself answers with",
            )
            .suggest("revoke its authority: the replica then replaces both by itself"));
        }
        self.still_valid(issued.not_after)
    }

    async fn judge_authority(&self, key: Sha256) -> Result<OffsetDateTime, Problem> {
        if let Some(end) = self.judge_root(key)? {
            return Ok(end);
        }
        let now = self.clock.now();
        let known = self.store.intermediates(now).await?;
        let key = key.to_string();
        let found = known.into_iter().find(|row| row.key_id == key);
        let mut end = found.map(|row| row.not_after);
        if end.is_none() {
            let below = self.store.downstream_authorities(now).await?;
            let found = below.into_iter().find(|row| row.key_id == key);
            end = found.map(|row| row.validity.not_after());
        }
        end.ok_or_else(|| {
            invalid(
                "unknown-authority",
                "no live authority of this mesh has this key",
            )
            .suggest("`countersign authority list -o json` shows the keys")
        })
    }

    /// `None`: it is not a root.
    fn judge_root(&self, key: Sha256) -> Result<Option<OffsetDateTime>, Problem> {
        let snapshot = self.registry.snapshot();
        let roots = snapshot.roots();
        if let Some((generation, root)) = roots.generation_of(key) {
            let active = roots.active().map(|(active, _)| active);
            if active.is_some_and(|active| generation >= active) {
                return Err(Problem::conflict(
                    "authority-signs",
                    "this root signs, or is about to: everybody would refuse everybody",
                )
                .suggest("`countersign authority rotate --compromised` replaces it first"));
            }
            return self.still_valid(root.validity().not_after()).map(Some);
        }
        Ok(None)
    }

    fn still_valid(&self, not_after: OffsetDateTime) -> Result<OffsetDateTime, Problem> {
        match not_after > self.clock.now() {
            true => Ok(not_after),
            false => Err(invalid(
                "already-ended",
                "it has ended already, and nobody accepts it",
            )),
        }
    }
}

fn judge_identity(id: &SpiffeId) -> Result<(), Problem> {
    match id.path().starts_with(RESERVED) {
        false => Ok(()),
        true => Err(invalid(
            "reserved-identity",
            "identities under /countersign/ are the mesh's own",
        )
        .suggest("revoke an agent as `agent`; a replica's certificates by their authority")),
    }
}

fn only_the_store_knows() -> Problem {
    let detail = "whether there is such a certificate or intermediate, and until when, only the \
                  store knows, which is away";
    Problem::unavailable("store-unavailable", detail)
        .suggest("revoke the identity or the agent instead, or wait for the store")
}

fn invalid(code: &str, detail: &str) -> Problem {
    Problem::invalid(code, detail).at("/subject")
}
