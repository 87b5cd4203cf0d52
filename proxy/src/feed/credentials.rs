//! From the feed's credentials to a verified SVID with its key, and the bundles to verify with.

use crypto::signing::{KeyError, SigningKey};
use identity::x509::{
    Bundle, BundleError, BundleSet, ChainError, KeyMismatch, SvidError, UnverifiedChain, X509Svid,
};
use identity::{SpiffeId, SpiffeIdError, TrustDomain, TrustDomainError};
use proto::mesh::v1;
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// Credentials that are not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error("the trust domain of a bundle")]
    TrustDomain(#[source] TrustDomainError),
    #[error("the bundle of {trust_domain}")]
    Bundle {
        trust_domain: TrustDomain,
        source: BundleError,
    },
    #[error("the certificate chain")]
    Chain(#[source] ChainError),
    #[error("the certificate")]
    Svid(#[source] SvidError),
    #[error("the private key")]
    Key(#[source] KeyError),
    #[error("the private key")]
    Mismatch(#[source] KeyMismatch),
    #[error("the SPIFFE ID")]
    SpiffeId(#[source] SpiffeIdError),
    #[error("the certificate is for {found}, the message says {said}")]
    OtherIdentity { said: SpiffeId, found: SpiffeId },
}

/// Verifies credentials as they came.
///
/// # Errors
/// The first rule that they break.
pub(crate) fn verify(
    mut message: v1::Credentials,
    now: OffsetDateTime,
) -> Result<(X509Svid, BundleSet), CredentialsError> {
    let key = Zeroizing::new(std::mem::take(&mut message.key));
    let said: SpiffeId = message
        .spiffe_id
        .parse()
        .map_err(CredentialsError::SpiffeId)?;
    let bundles = bundles(message.bundles)?;
    let verified = UnverifiedChain::from_concatenated_der(&message.chain.concat())
        .map_err(CredentialsError::Chain)?
        .verify(&bundles, now)
        .map_err(CredentialsError::Svid)?;
    if *verified.spiffe_id() != said {
        return Err(CredentialsError::OtherIdentity {
            said,
            found: verified.spiffe_id().clone(),
        });
    }
    let key = SigningKey::from_pkcs8(&key).map_err(CredentialsError::Key)?;
    let svid = X509Svid::try_new(verified, key).map_err(CredentialsError::Mismatch)?;
    Ok((svid, bundles))
}

fn bundles(messages: Vec<v1::Bundle>) -> Result<BundleSet, CredentialsError> {
    messages
        .into_iter()
        .map(|message| {
            let trust_domain: TrustDomain = message
                .trust_domain
                .parse()
                .map_err(CredentialsError::TrustDomain)?;
            Bundle::new(
                trust_domain.clone(),
                message.sequence,
                message.x509_authorities,
            )
            .map_err(|source| CredentialsError::Bundle {
                trust_domain,
                source,
            })
        })
        .collect()
}
