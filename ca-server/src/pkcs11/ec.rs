//! Signing keys of a token, which never tells them: P-256 and P-384.
//!
//! A key that was made here is found by its id, 16 random bytes of ours; its label is for people,
//! and for finding what no store refers to any more.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use crypto::random::{Random, SystemRandom};
use crypto::signing::{CertificatePublicKey, CertificateSigner, NotSigned, ecdsa_der};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use data_encoding::HEXLOWER;

use super::{Need, Token, TokenError, TokenSession};
use crate::config::{RootCurve, TokenKeyName};

const ID: usize = 16;
/// OBJECT IDENTIFIERs of the curves, which CKA_EC_PARAMS holds.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const OCTET_STRING: u8 = 0x04;
const REFERENCE: &str = "pkcs11:type=private;id=";

/// What the store keeps in the place of a key that is in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenKeyReference([u8; ID]);

/// The text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to the key of a token")]
pub(crate) struct InvalidReference;

/// A key of a token that signs certificates.
pub(crate) struct TokenSigningKey {
    token: Token,
    name: TokenKeyName,
    public: CertificatePublicKey,
    /// Why it did not sign the last time: rcgen has no place for it.
    failure: Mutex<Option<TokenError>>,
}

impl TokenSigningKey {
    /// Has the token make a key pair. Blocks, as all that follows.
    pub(crate) fn make(
        token: &Token,
        label: &str,
    ) -> Result<(TokenKeyReference, Self), TokenError> {
        let reference = TokenKeyReference(SystemRandom.bytes());
        let curve = match token.config().root_curve {
            RootCurve::P256 => P256,
            RootCurve::P384 => P384,
        };
        let named = [
            Attribute::Token(true),
            Attribute::Id(reference.0.to_vec()),
            Attribute::Label(label.as_bytes().to_vec()),
        ];
        let public = [
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(curve.to_vec()),
        ];
        let private = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ];
        let (public, private) = (
            [&named[..], &public].concat(),
            [&named[..], &private].concat(),
        );
        let point = token.with_session(Need::Change, |session| {
            let (public, _) = session
                .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
                .map_err(TokenError::failed("make a key pair"))?;
            let told = session
                .get_attributes(public, &[AttributeType::EcPoint])
                .map_err(TokenError::failed("tell a public key"))?;
            match told.into_iter().next() {
                Some(Attribute::EcPoint(point)) => Ok(point),
                _ => Err(TokenError::Answer("a public key")),
            }
        })?;
        let public = CertificatePublicKey::from_point(bare(&point));
        let public = public.map_err(|_| TokenError::Answer("a point of its curve"))?;
        Ok((reference, Self::of(token.clone(), reference.name(), public)))
    }

    /// A key that is there; that the token has it shows when it signs.
    pub(crate) fn of(token: Token, name: TokenKeyName, public: CertificatePublicKey) -> Self {
        Self {
            token,
            name,
            public,
            failure: Mutex::default(),
        }
    }

    /// Why it did not sign, once.
    pub(crate) fn take_failure(&self) -> Option<TokenError> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let digest = self.public.algorithm().digest(message);
        let digest = digest.ok_or_else(|| TokenError::UnfitKey {
            name: self.name.clone(),
            why: "it lies on no curve that a token signs with here",
        })?;
        let numbers = self.token.with_session(Need::Use, |session| {
            let mut found = keys(session, ObjectClass::PRIVATE_KEY, named(&self.name))?;
            let key = match (found.pop(), found.len()) {
                (Some(key), 0) => key,
                (None, _) => return Err(TokenError::NoKey(self.name.clone())),
                (Some(_), others) => {
                    return Err(TokenError::SeveralKeys {
                        name: self.name.clone(),
                        count: others + 1,
                    });
                }
            };
            session
                .sign(&Mechanism::Ecdsa, key, &digest)
                .map_err(TokenError::failed("sign"))
        })?;
        ecdsa_der(&numbers).map_err(|_| TokenError::Answer("a signature"))
    }
}

impl CertificateSigner for TokenSigningKey {
    fn public_key(&self) -> &CertificatePublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
        self.signature(message).map_err(|error| {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            NotSigned
        })
    }
}

impl fmt::Debug for TokenSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenSigningKey({})", self.name)
    }
}

impl TokenKeyReference {
    pub(crate) fn name(&self) -> TokenKeyName {
        TokenKeyName::Id(self.0.to_vec())
    }
}

impl fmt::Display for TokenKeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{REFERENCE}{}", HEXLOWER.encode(&self.0))
    }
}

impl FromStr for TokenKeyReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let id = text.strip_prefix(REFERENCE).ok_or(InvalidReference)?;
        let id = HEXLOWER.decode(id.as_bytes());
        let id = id.ok().and_then(|id| id.try_into().ok());
        id.map(Self).ok_or(InvalidReference)
    }
}

/// Destroys every key of this name, both halves. Answers how many there were.
pub(crate) fn destroy_keys(token: &Token, name: &TokenKeyName) -> Result<usize, TokenError> {
    token.with_session(Need::Change, |session| {
        let mut destroyed = 0;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            for key in keys(session, class, named(name))? {
                session
                    .destroy_object(key)
                    .map_err(TokenError::failed("destroy a key"))?;
                destroyed += usize::from(class == ObjectClass::PRIVATE_KEY);
            }
        }
        Ok(destroyed)
    })
}

fn keys(
    session: &TokenSession,
    class: ObjectClass,
    named: Attribute,
) -> Result<Vec<ObjectHandle>, TokenError> {
    session
        .find_objects(&[Attribute::Class(class), named])
        .map_err(TokenError::failed("look for a key"))
}

fn named(name: &TokenKeyName) -> Attribute {
    match name {
        TokenKeyName::Label(label) => Attribute::Label(label.as_bytes().to_vec()),
        TokenKeyName::Id(id) => Attribute::Id(id.clone()),
    }
}

/// CKA_EC_POINT is the DER of an OCTET STRING; some tokens tell the point alone.
fn bare(point: &[u8]) -> &[u8] {
    match point {
        [OCTET_STRING, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
        whole => whole,
    }
}
