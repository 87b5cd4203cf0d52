//! One batch of requests to the CA.
//!
//! Invariant: every identity of a batch gets exactly one outcome, whatever the CA answers.

use std::collections::BTreeSet;
use std::time::Duration;

use crypto::signing::{SigningKey, create_csr};
use identity::SpiffeId;
use identity::join_token::CaAddress;
use proto::agent::v1::issuance_client::IssuanceClient;
use proto::agent::v1::{self as wire, issue_result};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;

use crate::ca::CaChannel;
use crate::contact::Contact;
use crate::join::origin;
use crate::session::Verdict;

/// As many as the CA takes at once.
const LARGEST: usize = 64;
const CHANNEL_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What came of a batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) outcomes: Vec<(SpiffeId, Outcome)>,
    /// Zero when the CA did not answer.
    pub(crate) ca_time_unix_ms: i64,
    /// What the replica that was asked is good for.
    pub(crate) verdict: Option<Verdict>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// DER, leaf first, not yet judged.
    Issued {
        chain: Vec<Vec<u8>>,
        key: SigningKey,
    },
    Refused(wire::Refusal),
    Failed(String),
}

pub(super) fn batches(ids: BTreeSet<SpiffeId>) -> Vec<Vec<SpiffeId>> {
    let ids: Vec<SpiffeId> = ids.into_iter().collect();
    ids.chunks(LARGEST).map(<[SpiffeId]>::to_vec).collect()
}

/// Waits a moment for a connection if there is none.
pub(super) async fn issue(mut contact: watch::Receiver<Contact>, ids: Vec<SpiffeId>) -> Batch {
    let connected = contact.wait_for(|contact| contact.channel.is_some());
    let (channel, address) = match timeout(CHANNEL_WITHIN, connected).await {
        Ok(Ok(contact)) => (contact.channel.clone(), contact.address.clone()),
        _ => (None, None),
    };
    match channel {
        Some(channel) => ask(channel, address, ids).await,
        None => Batch::failed(ids, "the CA cannot be reached"),
    }
}

async fn ask(channel: CaChannel, address: Option<CaAddress>, ids: Vec<SpiffeId>) -> Batch {
    let asked: Vec<(SpiffeId, SigningKey)> = ids
        .into_iter()
        .map(|id| (id, SigningKey::generate()))
        .collect();
    let requests = asked.iter().map(|(id, key)| wire::CertificateRequest {
        spiffe_id: id.to_string(),
        csr: create_csr(key),
    });
    let request = wire::IssueRequest {
        requests: requests.collect(),
    };
    let mut client = IssuanceClient::with_origin(channel, origin());
    let ids = |asked: Vec<(SpiffeId, SigningKey)>| asked.into_iter().map(|(id, _)| id).collect();
    match timeout(ANSWER_WITHIN, client.issue(request)).await {
        Ok(Ok(response)) => Batch {
            verdict: address.map(Verdict::Signed),
            ..Batch::answered(asked, response.into_inner())
        },
        Ok(Err(status)) => Batch {
            verdict: address
                .filter(|_| another_may(&status))
                .map(Verdict::Refused),
            ..Batch::failed(ids(asked), status.message())
        },
        // One that hangs on its store.
        Err(_) => Batch {
            verdict: address.map(Verdict::Refused),
            ..Batch::failed(ids(asked), "the CA did not answer in time")
        },
    }
}

/// Whether the replica says that the fault is its own (agent.proto, `Issuance`).
fn another_may(status: &Status) -> bool {
    let retry = status.metadata().get("countersign-retry");
    retry.is_some_and(|retry| retry == "elsewhere")
}

impl Batch {
    fn failed(ids: Vec<SpiffeId>, reason: &str) -> Self {
        let failed = |id| (id, Outcome::Failed(reason.to_owned()));
        Self {
            outcomes: ids.into_iter().map(failed).collect(),
            ca_time_unix_ms: 0,
            verdict: None,
        }
    }

    /// One result for each request, in order (agent.proto); a missing one is a failure.
    fn answered(asked: Vec<(SpiffeId, SigningKey)>, response: wire::IssueResponse) -> Self {
        let mut results = response.results.into_iter();
        let outcome = |(id, key)| {
            let outcome = match results.next().and_then(|result| result.result) {
                Some(issue_result::Result::Svid(svid)) => Outcome::Issued {
                    chain: svid.chain,
                    key,
                },
                Some(issue_result::Result::Refusal(refusal)) => Outcome::Refused(refusal),
                None => Outcome::Failed("the CA's answer lacks this identity".to_owned()),
            };
            (id, outcome)
        };
        Self {
            outcomes: asked.into_iter().map(outcome).collect(),
            ca_time_unix_ms: response.ca_time_unix_ms,
            verdict: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SpiffeId {
        format!("spiffe://mesh.example/ns/shop/sa/{name}")
            .parse()
            .unwrap()
    }

    #[test]
    fn identity_without_a_result_has_failed() {
        let asked = vec![(id("a"), SigningKey::generate())];
        let batch = Batch::answered(asked, wire::IssueResponse::default());
        assert!(matches!(&batch.outcomes[..], [(_, Outcome::Failed(_))]));
    }

    #[test]
    fn refusal_of_one_identity_does_not_spoil_the_next() {
        let asked = vec![
            (id("a"), SigningKey::generate()),
            (id("b"), SigningKey::generate()),
        ];
        let result = |result| wire::IssueResult {
            result: Some(result),
        };
        let batch = Batch::answered(
            asked,
            wire::IssueResponse {
                results: vec![
                    result(issue_result::Result::Refusal(wire::Refusal::default())),
                    result(issue_result::Result::Svid(wire::Svid::default())),
                ],
                ca_time_unix_ms: 1,
            },
        );
        assert!(matches!(
            &batch.outcomes[..],
            [(_, Outcome::Refused(_)), (_, Outcome::Issued { .. })]
        ));
    }

    #[test]
    fn batch_is_no_larger_than_the_ca_takes() {
        let ids = (0..70).map(|n| id(&format!("w{n}"))).collect();
        let sizes: Vec<usize> = batches(ids).iter().map(Vec::len).collect();
        assert_eq!(sizes, [64, 6]);
    }
}
