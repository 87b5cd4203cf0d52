//! Why a handshake failed, by variant: callers tell an unexpected identity from an expired
//! certificate or an unknown authority without reading messages.
//!
//! A [`Refusal`] is our judgement of the peer. It travels through rustls and comes out whole; the
//! peer learns what its alert can say (expired, unknown authority, other).

use std::fmt;
use std::io;
use std::sync::Arc;

use identity::x509::{BundleError, ChainError, Denied, SvidError};
use identity::{SpiffeId, TrustDomain};
use rustls::{AlertDescription, CertificateError, OtherError};
use thiserror::Error;
use time::OffsetDateTime;

use crate::clock::{unix_time, wall_time};
use crate::expected::Expected;

/// Why there is no connection. Also made from the error of a later read: in TLS 1.3 a client
/// learns only then that the server refused its certificate.
#[derive(Debug, Error)]
pub enum HandshakeError {
    /// We refused the peer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer refused us.
    #[error("the peer ended the handshake: {0}")]
    RefusedByPeer(PeerAlert),
    /// The two sides have no version, group or protocol in common, or the peer broke TLS.
    #[error("the tls handshake failed")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection below failed.
    #[error("the connection failed during the tls handshake")]
    Io(#[source] io::Error),
}

/// The rule that a peer's certificate or identity broke.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// A certificate is required, and none came.
    #[error("the peer sent no certificate")]
    NoCertificate,
    /// The certificate, or one above it, is past its notAfter.
    #[error("the peer's certificate expired at {not_after}, it is now {now}")]
    Expired {
        /// The end of the certificate's life.
        not_after: OffsetDateTime,
        /// The time it was judged at.
        now: OffsetDateTime,
    },
    /// The certificate, or one above it, is before its notBefore.
    #[error(
        "the peer's certificate is valid from {not_before}, it is now {now}; compare the clocks"
    )]
    NotYetValid {
        /// The start of the certificate's life.
        not_before: OffsetDateTime,
        /// The time it was judged at.
        now: OffsetDateTime,
    },
    /// We hold no authorities of the peer's trust domain.
    #[error("no bundle for trust domain {trust_domain}; it is neither ours nor federated with us")]
    NoBundle {
        /// The trust domain in the peer's SPIFFE ID.
        trust_domain: TrustDomain,
    },
    /// No path leads to an authority of the peer's own trust domain.
    #[error("the peer's certificate does not chain to an authority of its trust domain")]
    UnknownAuthority,
    /// A valid certificate of somebody else.
    #[error("expected {expected}, got {got}")]
    IdentityMismatch {
        /// Who was expected.
        expected: Expected,
        /// Who answered.
        got: SpiffeId,
    },
    /// A valid certificate that the deny-list in force names.
    #[error("{peer} is revoked, by {by}; `countersign revocation list` says why")]
    Revoked {
        /// Whose certificate it is.
        peer: SpiffeId,
        /// The entry that names it.
        by: Denied,
    },
    /// The server sent no certificate that has a pinned digest.
    #[error("the server's chain has no root with a pinned sha-256 digest; is this the right CA?")]
    NotPinned,
    /// The pinned certificate is no usable root.
    #[error("the root with the pinned digest is refused")]
    PinnedRoot(#[source] BundleError),
    /// The peer did not sign the handshake with its certificate's key.
    #[error("the peer did not prove that it holds its certificate's key")]
    NoProofOfKey,
    /// The certificates cannot be read as an SVID.
    #[error("the peer's certificates are refused")]
    Chain(#[from] ChainError),
    /// The certificate breaks another rule of X.509-SVIDs.
    #[error("the peer's certificate is refused")]
    Certificate(#[source] SvidError),
}

impl Refusal {
    /// The same judgement as identity's, with what callers act on told apart.
    pub(crate) fn of_svid(error: SvidError, now: OffsetDateTime) -> Self {
        use webpki::Error::{
            CertExpired, CertNotValidYet, InvalidSignatureForPublicKey, UnknownIssuer,
        };
        let SvidError::Path { reason, .. } = &error else {
            return match error {
                SvidError::Expired { not_after } => Self::Expired { not_after, now },
                SvidError::NotYetValid { not_before } => Self::NotYetValid { not_before, now },
                SvidError::NoBundle { trust_domain } => Self::NoBundle { trust_domain },
                other => Self::Certificate(other),
            };
        };
        match reason {
            UnknownIssuer | InvalidSignatureForPublicKey => Self::UnknownAuthority,
            CertExpired { not_after, .. } => Self::Expired {
                not_after: wall_time(*not_after),
                now,
            },
            CertNotValidYet { not_before, .. } => Self::NotYetValid {
                not_before: wall_time(*not_before),
                now,
            },
            _ => Self::Certificate(error),
        }
    }
}

/// What the peer said when it ended the handshake (RFC 8446 §6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAlert {
    /// certificate_expired: ours has expired, or the peer's clock is off.
    CertificateExpired,
    /// unknown_ca: the peer does not know our authority.
    UnknownAuthority,
    /// certificate_required: the peer demands a certificate.
    CertificateRequired,
    /// Another refusal of our certificate, or of the identity in it.
    CertificateRefused,
    /// no_application_protocol: no ALPN protocol in common.
    NoApplicationProtocol,
    /// protocol_version: no TLS version in common.
    ProtocolVersion,
    /// Any other alert, by its number.
    Other(u8),
}

impl fmt::Display for PeerAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateExpired => {
                f.write_str("it finds our certificate expired; compare the clocks")
            }
            Self::UnknownAuthority => {
                f.write_str("it does not know the authority that signed ours")
            }
            Self::CertificateRequired => f.write_str("it requires a client certificate"),
            Self::CertificateRefused => f.write_str("it refuses our certificate or identity"),
            Self::NoApplicationProtocol => f.write_str("it speaks none of our protocols (ALPN)"),
            Self::ProtocolVersion => f.write_str("it speaks none of our TLS versions"),
            Self::Other(alert) => write!(f, "alert {alert}"),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<rustls::Error>());
        match tls.cloned() {
            Some(tls) => tls.into(),
            None => Self::Io(error),
        }
    }
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Refusal::NoCertificate.into(),
            rustls::Error::AlertReceived(alert) => Self::RefusedByPeer(alert.into()),
            rustls::Error::InvalidCertificate(certificate) => certificate.into(),
            other => Self::Tls(Box::new(other)),
        }
    }
}

impl From<CertificateError> for HandshakeError {
    fn from(error: CertificateError) -> Self {
        let refusal = match &error {
            CertificateError::ExpiredContext { time, not_after } => Some(Refusal::Expired {
                not_after: wall_time(*not_after),
                now: wall_time(*time),
            }),
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(Refusal::NotYetValid {
                    not_before: wall_time(*not_before),
                    now: wall_time(*time),
                })
            }
            CertificateError::UnknownIssuer => Some(Refusal::UnknownAuthority),
            CertificateError::BadSignature => Some(Refusal::NoProofOfKey),
            CertificateError::Other(OtherError(cause)) => cause.downcast_ref().cloned(),
            _ => None,
        };
        match refusal {
            Some(refusal) => refusal.into(),
            None => Self::Tls(Box::new(rustls::Error::InvalidCertificate(error))),
        }
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(match refusal {
            Refusal::Expired { not_after, now } => CertificateError::ExpiredContext {
                time: unix_time(now),
                not_after: unix_time(not_after),
            },
            Refusal::NotYetValid { not_before, now } => CertificateError::NotValidYetContext {
                time: unix_time(now),
                not_before: unix_time(not_before),
            },
            Refusal::UnknownAuthority => CertificateError::UnknownIssuer,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

impl From<AlertDescription> for PeerAlert {
    fn from(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::CertificateExpired => Self::CertificateExpired,
            AlertDescription::UnknownCA => Self::UnknownAuthority,
            AlertDescription::CertificateRequired => Self::CertificateRequired,
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => Self::CertificateRefused,
            AlertDescription::NoApplicationProtocol => Self::NoApplicationProtocol,
            AlertDescription::ProtocolVersion => Self::ProtocolVersion,
            other => Self::Other(other.into()),
        }
    }
}
