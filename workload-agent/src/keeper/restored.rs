//! What the sealed cache gives back at the start: everything that still holds, judged again.
//!
//! Invariant: nothing expired, and nothing that does not verify, is restored as a credential. The
//! agent's own expired SVID is kept as proof for `Reattest`, and as nothing else.

use std::sync::Arc;

use crypto::signing::SigningKey;
use identity::x509::{BundleSet, UnverifiedChain, X509Svid};
use identity::{SpiffeId, TrustDomain};
use time::OffsetDateTime;

use crate::cache::{StoredCredentials, StoredSvid};
use crate::holdings::{Held, Holdings, OwnProof};
use crate::view::judge_bundle;

/// Reads what was stored for `trust_domain`.
pub(crate) fn restore(
    trust_domain: &TrustDomain,
    stored: &StoredCredentials,
    now: OffsetDateTime,
) -> Holdings {
    let Some(bundle) = &stored.bundle else {
        return Holdings::default();
    };
    let bundles = match judge_bundle(trust_domain, bundle) {
        Ok(judged) => BundleSet::from(judged),
        Err(error) => {
            tracing::error!(error = %runtime::exit::one_line(&error), "cached credentials are ignored");
            return Holdings::default();
        }
    };
    let mut holdings = Holdings {
        bundle: Some(Arc::new(bundle.clone())),
        ..Holdings::default()
    };
    if let Some(own) = &stored.own {
        holdings.own_proof = proof(own).map(Arc::new);
        holdings.own = held(own, &bundles, now).map(Arc::new);
    }
    for workload in &stored.workloads {
        if let Some(held) = held(workload, &bundles, now) {
            holdings
                .workloads
                .insert(held.svid.spiffe_id().clone(), Arc::new(held));
        }
    }
    holdings
}

fn held(stored: &StoredSvid, bundles: &BundleSet, now: OffsetDateTime) -> Option<Held> {
    let key = SigningKey::from_pkcs8(&stored.key).ok()?;
    let chain = stored.chain.iter().cloned().map(Into::into).collect();
    let verified = UnverifiedChain::from_der(chain).ok()?.verify(bundles, now);
    let verified = verified
        .inspect_err(|error| tracing::info!(%error, "cached certificate is not used"))
        .ok()?;
    let validity = *verified.validity();
    let renews_at = OffsetDateTime::from_unix_timestamp(stored.renews_at).ok()?;
    Some(Held {
        svid: X509Svid::try_new(verified, key).ok()?,
        renews_at: renews_at.clamp(validity.not_before(), validity.not_after()),
        life: validity.life(),
        renewals: 0,
    })
}

fn proof(stored: &StoredSvid) -> Option<OwnProof> {
    let spiffe_id: SpiffeId = stored.spiffe_id.parse().ok()?;
    Some(OwnProof {
        spiffe_id,
        chain: stored.chain.clone(),
        key: SigningKey::from_pkcs8(&stored.key).ok()?,
    })
}
