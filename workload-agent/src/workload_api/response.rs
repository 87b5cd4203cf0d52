//! What a caller is told: its identities and the bundles to judge others by.
//!
//! Invariant: only certificates that have not expired, only identities of the evidence, each hint
//! once (requirement 140), in the order of the IDs, which does not change between messages.

use std::collections::{BTreeSet, HashMap};

use proto::mesh::v1::Bundle;
use proto::spiffe as wire;
use time::OffsetDateTime;
use tonic::Status;

use crate::attestor::Entitled;
use crate::holdings::Holdings;
use crate::view::View;

/// The caller's certificates, with their keys.
pub(super) fn x509_svids(
    entitled: &Entitled,
    holdings: &Holdings,
    view: &View,
    now: OffsetDateTime,
) -> Result<wire::X509svidResponse, Status> {
    let bundle = holdings.bundle.as_deref().ok_or_else(not_ready)?;
    let authorities = bundle.x509_authorities.concat();
    let mut hints = BTreeSet::new();
    let mut svids = Vec::new();
    for entry in entitled.assignments() {
        let Some(held) = holdings.workload(&entry.spiffe_id, now) else {
            continue;
        };
        let hint = entry.hint.clone().filter(|hint| hints.insert(hint.clone()));
        svids.push(wire::X509svid {
            spiffe_id: entry.spiffe_id.to_string(),
            x509_svid: held.chain().concat(),
            x509_svid_key: held.svid.key().to_pkcs8().to_vec(),
            bundle: authorities.clone(),
            hint: hint.unwrap_or_default(),
        });
    }
    if svids.is_empty() {
        return Err(nothing(entitled, holdings));
    }
    Ok(wire::X509svidResponse {
        svids,
        crl: view.revocation_lists().crls.clone(),
        federated_bundles: HashMap::new(),
    })
}

/// The bundle of the agent's own trust domain, under the domain's ID.
pub(super) fn x509_bundles(
    bundle: Option<&Bundle>,
    view: &View,
) -> Result<wire::X509BundlesResponse, Status> {
    let bundle = bundle.ok_or_else(not_ready)?;
    let id = format!("spiffe://{}", bundle.trust_domain);
    Ok(wire::X509BundlesResponse {
        crl: view.revocation_lists().crls.clone(),
        bundles: HashMap::from([(id, bundle.x509_authorities.concat())]),
    })
}

/// Nobody waits for an identity that is revoked.
fn nothing(entitled: &Entitled, holdings: &Holdings) -> Status {
    let mut entries = entitled.assignments().iter().map(|entry| &entry.spiffe_id);
    match entries.find(|id| !holdings.is_revoked(id)) {
        Some(_) => not_ready(),
        None => Status::permission_denied(
            "this workload's identity is revoked; `countersign revocation list` says why",
        ),
    }
}

/// The client may retry with backoff (Workload Endpoint §6).
pub(super) fn not_ready() -> Status {
    Status::unavailable("the agent has no live certificate for this workload yet; try again")
}
