//! An authority above the mesh: its certificates are in a file, its key in a file or in a token.
//!
//! Nothing of it is kept: whoever replaces its files is obeyed the next time that an intermediate
//! is signed. What a mesh could not live under is refused before anything is signed with it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use crypto::signing::{CertificateKey, CertificatePublicKey, ForeignKeyError, UnknownKind};
use identity::TrustDomain;
use identity::x509::{IssuingChain, IssuingChainError, RootCertificate, UnverifiedIssuingChain};
use runtime::FileError;
use time::OffsetDateTime;

use crate::config::{TokenKeyName, UpstreamConfig};
use crate::pkcs11::{Token, TokenError, TokenSigningKey};

/// One byte more than is read of a chain.
const ENOUGH: u64 = 64 * 1024 + 1;

/// Where the authority is. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Upstream {
    Files(UpstreamFiles),
    /// In the store; see `root::requested`.
    Requested,
    /// In the store as well; another instance of Countersign has signed it.
    Nested(RootsAbove),
}

/// What the instance above said of its roots last, if it did. All clones know the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct RootsAbove(Arc<ArcSwapOption<ToldAbove>>);

/// Roots of the instance above.
#[derive(Debug, Default)]
pub(crate) struct ToldAbove {
    /// The one that signs first.
    pub(crate) to_take_up: Vec<RootCertificate>,
    /// Trusted for the sake of what they have signed.
    pub(crate) draining: Vec<RootCertificate>,
    /// Authorities of this instance, by their keys' ids.
    pub(crate) revoked: BTreeSet<String>,
}

/// The authority in use, and the one that is to follow it, if it is there already.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamFiles(Vec<UpstreamPlace>);

/// Knows where its certificates are, and its key.
#[derive(Debug, Clone)]
struct UpstreamPlace {
    chain_file: PathBuf,
    key: Place,
}

#[derive(Debug, Clone)]
enum Place {
    File(PathBuf),
    Token(Token, TokenKeyName),
}

/// The authority, for one signature.
pub(super) struct OpenedUpstream {
    pub(super) chain: IssuingChain,
    pub(super) key: CertificateKey,
    /// The same key, if it is in a token, which knows why it did not sign.
    pub(super) in_token: Option<Arc<TokenSigningKey>>,
}

/// Why the upstream authority is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("cannot read the upstream's certificates in {}", path.display())]
    ChainFile {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the mesh cannot live under the upstream of {}", path.display())]
    Chain {
        path: PathBuf,
        source: IssuingChainError,
    },
    #[error("the upstream's key cannot be read")]
    KeyFile(#[from] FileError),
    #[error("the upstream's key in {} cannot be used", path.display())]
    Key {
        path: PathBuf,
        source: ForeignKeyError,
    },
    #[error("the upstream's certificate is for a key of a kind that cannot be used")]
    Kind(#[from] UnknownKind),
    #[error("the token that holds the upstream's key did not do its part")]
    Token(#[source] TokenError),
    #[error(
        "the offline root has signed no authority for this mesh that is of use now; make a request by \
         `countersign-ca upstream csr`, and bring the certificate by `countersign-ca upstream install`"
    )]
    NotInstalled,
    #[error("the instance above has signed no authority for this one that is of use now")]
    NotSigned,
    #[error("the instance above has not said yet which root there is, or marks it as compromised")]
    NotTold,
    #[error("requests are made for [upstream.csr], which is not configured")]
    NotRequested,
    #[error("the mesh cannot live under this certificate")]
    Certificate(#[source] IssuingChainError),
    #[error("the certificate is for a key that no request was made with, or is installed already")]
    OtherKey,
    #[error("the certificate does not name the trust domain, as the request does")]
    Unnamed,
}

impl RootsAbove {
    pub(crate) fn tell(&self, roots: ToldAbove) {
        self.0.store(Some(Arc::new(roots)));
    }

    /// Nothing before the first answer.
    pub(super) fn told(&self) -> Option<Arc<ToldAbove>> {
        self.0.load_full()
    }

    /// Whether others may still lead to a root that drains here.
    pub(crate) fn keeps(&self, root: &RootCertificate) -> bool {
        self.told()
            .is_none_or(|told| told.draining.contains(root) || told.to_take_up.contains(root))
    }

    /// Whether it has said of an authority that it is revoked.
    pub(super) fn revokes(&self, key_id: &str) -> bool {
        let told = self.told();
        told.is_some_and(|told| told.revoked.contains(key_id))
    }
}

impl Upstream {
    /// `token` is that of `[keys.pkcs11]`; `None` where one is needed and not configured.
    pub(super) fn of(config: &UpstreamConfig, token: Option<&Token>) -> Option<Self> {
        Some(match config {
            UpstreamConfig::Disk(disk) => {
                let place = |(chain_file, key_file): (&PathBuf, &PathBuf)| UpstreamPlace {
                    chain_file: chain_file.clone(),
                    key: Place::File(key_file.clone()),
                };
                Self::Files(UpstreamFiles(disk.places().map(place).collect()))
            }
            UpstreamConfig::Pkcs11(pkcs11) => {
                let token = token?;
                let place = |(chain_file, key): (&PathBuf, TokenKeyName)| UpstreamPlace {
                    chain_file: chain_file.clone(),
                    key: Place::Token(token.clone(), key),
                };
                Self::Files(UpstreamFiles(pkcs11.places().map(place).collect()))
            }
            UpstreamConfig::Csr(_) => Self::Requested,
            UpstreamConfig::Countersign(_) => Self::Nested(RootsAbove::default()),
        })
    }
}

impl UpstreamFiles {
    /// Reads and checks the authority whose root is wanted, which signs with its key; the one in use
    /// if none is. Blocks.
    pub(super) fn open(
        &self,
        is_wanted: impl Fn(&[u8]) -> bool,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<OpenedUpstream, UpstreamError> {
        let offers = |place: &&UpstreamPlace| place.offered_root().is_ok_and(|it| is_wanted(&it));
        let wanted = self.0.iter().find(offers).or_else(|| self.0.first());
        wanted
            .ok_or(UpstreamError::NotTold)?
            .open(trust_domain, now)
    }

    /// The DER of the roots that its files hold now, unchecked. Blocks.
    pub(super) fn offered_roots(&self) -> Result<Vec<Vec<u8>>, UpstreamError> {
        self.0.iter().map(UpstreamPlace::offered_root).collect()
    }
}

impl UpstreamPlace {
    fn open(
        &self,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<OpenedUpstream, UpstreamError> {
        let chain = self.read()?;
        let (key, in_token) = self.key(&chain)?;
        let chain = chain
            .check(key.clone(), trust_domain, now)
            .map_err(
                |error| match in_token.as_ref().and_then(|it| it.take_failure()) {
                    Some(failure) => UpstreamError::Token(failure),
                    None => self.refused(error),
                },
            )?;
        Ok(OpenedUpstream {
            chain,
            key,
            in_token,
        })
    }

    fn offered_root(&self) -> Result<Vec<u8>, UpstreamError> {
        Ok(self.read()?.root().to_vec())
    }

    fn read(&self) -> Result<UnverifiedIssuingChain, UpstreamError> {
        let text = read_bounded(&self.chain_file).map_err(|source| UpstreamError::ChainFile {
            path: self.chain_file.clone(),
            source,
        })?;
        UnverifiedIssuingChain::from_pem(&text).map_err(|error| self.refused(error))
    }

    fn key(
        &self,
        chain: &UnverifiedIssuingChain,
    ) -> Result<(CertificateKey, Option<Arc<TokenSigningKey>>), UpstreamError> {
        match &self.key {
            Place::File(path) => {
                let text = runtime::files::read_private(path)?;
                let key = CertificateKey::from_pem(&text);
                let key = key.map_err(|source| UpstreamError::Key {
                    path: path.clone(),
                    source,
                })?;
                Ok((key, None))
            }
            Place::Token(token, name) => {
                let spki = chain.public_key().map_err(|error| self.refused(error))?;
                let public = CertificatePublicKey::from_spki(&spki)?;
                let key = Arc::new(TokenSigningKey::of(token.clone(), name.clone(), public));
                Ok((CertificateKey::Other(key.clone()), Some(key)))
            }
        }
    }

    fn refused(&self, source: IssuingChainError) -> UpstreamError {
        UpstreamError::Chain {
            path: self.chain_file.clone(),
            source,
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(ENOUGH).read_to_end(&mut text)?;
    Ok(text)
}
