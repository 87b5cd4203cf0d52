//! The X.509 bundles alone (SPIFFE_Workload_API.md §5.2.2), for a program that only verifies.

use std::collections::BTreeMap;

use identity::x509::{Bundle, BundleSet};
use identity::{SpiffeId, TrustDomain};
use proto::spiffe::{X509BundlesRequest, X509BundlesResponse};
use runtime::Clock;
use time::OffsetDateTime;
use tonic::{Response, Status, Streaming};

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::ResponseError;
use crate::source::{Source, Subscription};

/// Keeps the bundles current.
pub type BundleSource = Source<X509Bundles>;

/// One message of `FetchX509Bundles`: the whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Bundles {
    pub bundles: BundleSet,
    /// DER revocation lists, as they were sent.
    pub revocation_lists: Vec<Vec<u8>>,
}

impl BundleSource {
    /// Connects in the background, and again whenever the stream is lost.
    pub fn start(endpoint: Endpoint, clock: Clock) -> Self {
        Self::run::<X509BundleStream>(endpoint, clock)
    }
}

#[derive(Debug)]
struct X509BundleStream;

impl Subscription for X509BundleStream {
    type Message = X509BundlesResponse;
    type Value = X509Bundles;

    async fn open(client: &mut Client) -> Result<Response<Streaming<Self::Message>>, Status> {
        client.fetch_x509_bundles(X509BundlesRequest {}).await
    }

    fn read(message: X509BundlesResponse, _: OffsetDateTime) -> Result<X509Bundles, ResponseError> {
        // Requirement 144: the server's own trust domain at the least.
        if message.bundles.is_empty() {
            return Err(ResponseError::NoBundles);
        }
        let mut bundles = BundleReader::default();
        for (key, der) in &message.bundles {
            bundles.add_keyed(key, der)?;
        }
        Ok(X509Bundles {
            bundles: bundles.finish(),
            revocation_lists: message.crl,
        })
    }
}

/// Collects the bundles of one message; two of one trust domain must be the same. A bundle is
/// allowed to be empty: nothing of that trust domain is trusted then.
#[derive(Debug, Default)]
pub(crate) struct BundleReader(BTreeMap<TrustDomain, Bundle>);

impl BundleReader {
    /// Keys are trust domains as IDs, without a slash at the end.
    pub(crate) fn add_keyed(&mut self, key: &str, der: &[u8]) -> Result<(), ResponseError> {
        match key.parse::<SpiffeId>() {
            Ok(id) if id.path().is_empty() => self.add(id.trust_domain(), der),
            _ => {
                let key = key.to_owned();
                Err(ResponseError::BundleKey { key })
            }
        }
    }

    /// The Workload API sends no sequence; it stays 0.
    pub(crate) fn add(&mut self, name: &TrustDomain, der: &[u8]) -> Result<(), ResponseError> {
        let bundle = Bundle::from_concatenated_der(name.clone(), 0, der).map_err(|reason| {
            let name = name.to_string();
            ResponseError::Bundle { name, reason }
        })?;
        let digest = bundle.digest();
        match self.0.insert(name.clone(), bundle) {
            Some(other) if other.digest() != digest => {
                let name = name.to_string();
                Err(ResponseError::ConflictingBundles { name })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn finish(self) -> BundleSet {
        self.0.into_values().collect()
    }
}
