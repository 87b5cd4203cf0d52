//! X.509-SVIDs with their keys and the bundles to judge peers by (SPIFFE_Workload_API.md §5.2.1).

use std::collections::HashSet;

use crypto::signing::SigningKey;
use identity::SpiffeId;
use identity::x509::{BundleSet, UnverifiedChain, X509Svid};
use proto::spiffe::{X509svid, X509svidRequest, X509svidResponse};
use runtime::Clock;
use time::OffsetDateTime;
use tonic::{Response, Status, Streaming};

use crate::bundles::BundleReader;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::ResponseError;
use crate::source::{Source, Subscription};

/// Requirement 158.
const MAX_HINT: usize = 1024;

/// Keeps the caller's identities and the bundles current.
pub type X509Source = Source<X509Context>;

/// One message of `FetchX509SVID`: the whole state, each SVID verified against the bundle that
/// came with it.
#[derive(Debug, Clone)]
pub struct X509Context {
    identities: Vec<Identity>,
    bundles: BundleSet,
    revocation_lists: Vec<Vec<u8>>,
}

/// One of the caller's identities.
#[derive(Debug, Clone)]
pub struct Identity {
    pub svid: X509Svid,
    /// What the operator calls this identity, to choose among several.
    pub hint: Option<String>,
}

impl X509Source {
    /// Connects in the background, and again whenever the stream is lost.
    pub fn start(endpoint: Endpoint, clock: Clock) -> Self {
        Self::run::<X509SvidStream>(endpoint, clock)
    }
}

impl X509Context {
    /// The first one (requirement 157).
    pub fn default_identity(&self) -> &Identity {
        &self.identities[0]
    }

    /// In the server's order; never empty.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    pub fn with_hint(&self, hint: &str) -> Option<&Identity> {
        let has_hint = |identity: &&Identity| identity.hint.as_deref() == Some(hint);
        self.identities.iter().find(has_hint)
    }

    pub fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    /// DER revocation lists, as they were sent.
    pub fn revocation_lists(&self) -> &[Vec<u8>] {
        &self.revocation_lists
    }
}

#[derive(Debug)]
struct X509SvidStream;

impl Subscription for X509SvidStream {
    type Message = X509svidResponse;
    type Value = X509Context;

    async fn open(client: &mut Client) -> Result<Response<Streaming<Self::Message>>, Status> {
        client.fetch_x509svid(X509svidRequest {}).await
    }

    fn read(message: X509svidResponse, now: OffsetDateTime) -> Result<X509Context, ResponseError> {
        // Requirement 138.
        if message.svids.is_empty() {
            return Err(ResponseError::NoSvids);
        }
        let mut bundles = BundleReader::default();
        for (index, svid) in message.svids.iter().enumerate() {
            check_fields(index, svid)?;
            bundles.add(claimed_id(index, svid)?.trust_domain(), &svid.bundle)?;
        }
        for (key, der) in &message.federated_bundles {
            bundles.add_keyed(key, der)?;
        }
        let bundles = bundles.finish();
        let mut hints = HashSet::new();
        let mut identities = Vec::new();
        for (index, svid) in message.svids.iter().enumerate() {
            let identity = read_identity(index, svid, &bundles, now)?;
            // Requirement 141: of two with one hint, the first is taken.
            if identity.hint.is_none() || hints.insert(identity.hint.clone()) {
                identities.push(identity);
            }
        }
        Ok(X509Context {
            identities,
            bundles,
            revocation_lists: message.crl,
        })
    }
}

/// Requirements 135, 139: all fields but `hint` are mandatory.
fn check_fields(index: usize, svid: &X509svid) -> Result<(), ResponseError> {
    for (field, is_empty) in [
        ("spiffe_id", svid.spiffe_id.is_empty()),
        ("x509_svid", svid.x509_svid.is_empty()),
        ("x509_svid_key", svid.x509_svid_key.is_empty()),
        ("bundle", svid.bundle.is_empty()),
    ] {
        if is_empty {
            return Err(ResponseError::EmptyField { index, field });
        }
    }
    if svid.hint.len() > MAX_HINT {
        let bytes = svid.hint.len();
        return Err(ResponseError::HintTooLong { index, bytes });
    }
    Ok(())
}

fn claimed_id(index: usize, svid: &X509svid) -> Result<SpiffeId, ResponseError> {
    svid.spiffe_id
        .parse()
        .map_err(|reason| ResponseError::SpiffeId { index, reason })
}

fn read_identity(
    index: usize,
    svid: &X509svid,
    bundles: &BundleSet,
    now: OffsetDateTime,
) -> Result<Identity, ResponseError> {
    let claimed = claimed_id(index, svid)?;
    let verified = UnverifiedChain::from_concatenated_der(&svid.x509_svid)
        .map_err(|reason| ResponseError::Chain { index, reason })?
        .verify(bundles, now)
        .map_err(|reason| ResponseError::Svid { index, reason })?;
    if verified.spiffe_id() != &claimed {
        let found = verified.spiffe_id().clone();
        return Err(ResponseError::OtherSpiffeId {
            index,
            claimed,
            found,
        });
    }
    let key =
        SigningKey::from_pkcs8(&svid.x509_svid_key).map_err(|_| ResponseError::Key { index })?;
    let svid_with_key = X509Svid::try_new(verified, key)
        .map_err(|reason| ResponseError::KeyMismatch { index, reason })?;
    Ok(Identity {
        svid: svid_with_key,
        hint: Some(svid.hint.clone()).filter(|hint| !hint.is_empty()),
    })
}
