//! `[join]` and what of `[ca]` belongs to it: how the agent proves itself, and whom it believes
//! before it holds a bundle.
//!
//! Refused: two ways at once, and a way that names no CA without `[ca]` saying which one to trust.

use std::path::PathBuf;

use crypto::digest::Sha256;
use identity::TrustDomain;
use mtls::PinnedRoots;
use serde::{Deserialize, Deserializer, de};

use super::{Ca, ConfigRefused};

/// How the agent proves itself: one way of these.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Holds one join token; not read again once the agent has an identity.
    pub token_file: Option<PathBuf>,
    /// A certificate that this host has from elsewhere.
    pub x509pop: Option<HostCertificate>,
    /// A token by which a known issuer says who this agent is.
    pub jwt: Option<IssuersToken>,
}

/// The files of a host's certificate; read at each attestation, so whoever renews them need not
/// tell the agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCertificate {
    /// PEM, leaf first, with the intermediates.
    pub certificate_file: PathBuf,
    /// PEM, unencrypted, 0600.
    pub key_file: PathBuf,
}

/// Where an issuer's token lies; read at each attestation, since such tokens are replaced often.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuersToken {
    /// As Kubernetes projects it, or a CI system writes it.
    pub token_file: PathBuf,
}

/// A root of the trust domain, by the SHA-256 of its DER.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RootDigest(pub Sha256);

impl Join {
    pub(super) fn validate(&self, ca: &Ca) -> Result<(), ConfigRefused> {
        let Some(method) = self.without_token() else {
            return Ok(());
        };
        if self.token_file.is_some() || (self.x509pop.is_some() && self.jwt.is_some()) {
            return Err(ConfigRefused::TwoWaysToJoin(method));
        }
        let missing = match ca {
            Ca { addresses, .. } if addresses.is_empty() => "addresses",
            Ca { root_sha256, .. } if root_sha256.is_empty() => "root_sha256",
            Ca { trust_domain, .. } if trust_domain.is_none() => "trust_domain",
            _ => return Ok(()),
        };
        Err(ConfigRefused::UnknownCa { method, missing })
    }

    /// The configured way that needs no token.
    pub(crate) fn without_token(&self) -> Option<&'static str> {
        match (&self.x509pop, &self.jwt) {
            (Some(_), _) => Some("x509pop"),
            (None, Some(_)) => Some("jwt"),
            (None, None) => None,
        }
    }
}

impl Ca {
    /// The roots that the operator pins.
    pub(crate) fn pinned(&self) -> Option<PinnedRoots> {
        let digests: Vec<_> = self.root_sha256.iter().map(|root| root.0).collect();
        let trust_domain = self.trust_domain.clone()?;
        (!digests.is_empty()).then(|| PinnedRoots::new(trust_domain, digests))
    }

    pub(crate) fn trust_domain(&self) -> Option<&TrustDomain> {
        self.trust_domain.as_ref()
    }
}

impl<'de> Deserialize<'de> for RootDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}
