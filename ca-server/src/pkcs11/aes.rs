//! An AES-256 key of a token that wraps data keys, as the key allows: it encrypts by AES-GCM, or
//! wraps by AES-KEY-WRAP-PAD (RFC 5649) where the token wants to see nothing else of it.

use std::fmt;

use crypto::digest::Sha256;
use crypto::random::{Random, SystemRandom};
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::{Need, Token, TokenError, TokenSession};
use crate::config::TokenKeyName;

const NONCE: usize = 12;
const TAG_BITS: u64 = 128;
const KEY_BYTES: u64 = 32;
/// What a key makes of this tells it from another. Nothing else is ever encrypted under its nonce,
/// but by a chance of 2^-96.
const CHECK_NONCE: [u8; NONCE] = *b"countersign\0";
const CHECK_TEXT: [u8; 32] = *b"countersign key-encryption check";

/// A key-encryption key that never leaves its token. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TokenAesKey {
    token: Token,
    name: TokenKeyName,
}

/// What its attributes let the key do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Gcm,
    WrapPad,
}

impl TokenAesKey {
    pub(crate) fn new(token: Token, name: TokenKeyName) -> Self {
        Self { token, name }
    }

    /// By which a wrong key is told. Blocks, as all that follows.
    pub(crate) fn check_value(&self) -> Result<[u8; 16], TokenError> {
        let made = self.token.with_session(Need::Use, |session| {
            let (key, way) = self.find(session)?;
            match way {
                Way::Gcm => gcm(session, key, CHECK_NONCE, &[], &CHECK_TEXT),
                Way::WrapPad => wrap_pad(session, key, &CHECK_TEXT),
            }
        })?;
        let mut value = [0; 16];
        value.copy_from_slice(&Sha256::of(&made).as_bytes()[..16]);
        Ok(value)
    }

    /// A data key under this one. By AES-KEY-WRAP-PAD the label is not bound to it; what the data
    /// key seals is.
    pub(crate) fn wrap(&self, label: &[u8], data_key: &[u8]) -> Result<Vec<u8>, TokenError> {
        self.token.with_session(Need::Use, |session| {
            let (key, way) = self.find(session)?;
            match way {
                Way::Gcm => {
                    let nonce: [u8; NONCE] = SystemRandom.bytes();
                    let sealed = gcm(session, key, nonce, label, data_key)?;
                    Ok([&nonce[..], &sealed].concat())
                }
                Way::WrapPad => wrap_pad(session, key, data_key),
            }
        })
    }

    /// What [`wrap`](Self::wrap) made.
    pub(crate) fn unwrap(
        &self,
        label: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.token.with_session(Need::Use, |session| {
            let (key, way) = self.find(session)?;
            let opened = match way {
                Way::Gcm => {
                    let parts = wrapped.split_first_chunk::<NONCE>();
                    let (nonce, text) = parts.ok_or(TokenError::Answer("a wrapped key"))?;
                    let mut nonce = *nonce;
                    let mechanism = gcm_mechanism(&mut nonce, label)?;
                    session.decrypt(&mechanism, key, text)
                }
                Way::WrapPad => return unwrap_pad(session, key, wrapped),
            };
            let opened = opened.map_err(TokenError::failed("open a wrapped key"))?;
            Ok(Zeroizing::new(opened))
        })
    }

    /// Makes the key: it stays in the token, and nobody reads it.
    ///
    /// Two who make it at once may leave none, and start again.
    pub(crate) fn make(&self) -> Result<(), TokenError> {
        let TokenKeyName::Label(label) = &self.name else {
            return Err(TokenError::NoKey(self.name.clone()));
        };
        self.token.with_session(Need::Change, |session| {
            let mut template = self.template();
            template.extend([
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Label(label.as_bytes().to_vec()),
                Attribute::Id(SystemRandom.bytes::<16>().to_vec()),
                Attribute::ValueLen(KEY_BYTES.into()),
            ]);
            let usable = way_of_making(session)?;
            template.extend([
                Attribute::Encrypt(usable == Way::Gcm),
                Attribute::Decrypt(usable == Way::Gcm),
                Attribute::Wrap(usable == Way::WrapPad),
                Attribute::Unwrap(usable == Way::WrapPad),
            ]);
            let made = session
                .generate_key(&Mechanism::AesKeyGen, &template)
                .map_err(TokenError::failed("make an AES key"))?;
            if let Err(error) = self.find(session) {
                session
                    .destroy_object(made)
                    .map_err(TokenError::failed("destroy a surplus key"))?;
                return Err(error);
            }
            Ok(())
        })
    }

    fn find(&self, session: &Session) -> Result<(ObjectHandle, Way), TokenError> {
        let mut template = self.template();
        template.push(match &self.name {
            TokenKeyName::Label(label) => Attribute::Label(label.as_bytes().to_vec()),
            TokenKeyName::Id(id) => Attribute::Id(id.clone()),
        });
        let found = session
            .find_objects(&template)
            .map_err(TokenError::failed("look for a key"))?;
        match *found {
            [key] => Ok((key, self.way(session, key)?)),
            [] => Err(TokenError::NoKey(self.name.clone())),
            _ => Err(TokenError::SeveralKeys {
                name: self.name.clone(),
                count: found.len(),
            }),
        }
    }

    fn template(&self) -> Vec<Attribute> {
        vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
        ]
    }

    fn way(&self, session: &Session, key: ObjectHandle) -> Result<Way, TokenError> {
        let asked = [
            AttributeType::Encrypt,
            AttributeType::Decrypt,
            AttributeType::Wrap,
            AttributeType::Unwrap,
            AttributeType::Extractable,
            AttributeType::ValueLen,
        ];
        let attributes = session
            .get_attributes(key, &asked)
            .map_err(TokenError::failed("tell about a key"))?;
        let has = |wanted: &Attribute| attributes.contains(wanted);
        let unfit = |why| TokenError::UnfitKey {
            name: self.name.clone(),
            why,
        };
        if has(&Attribute::Extractable(true)) {
            return Err(unfit("it may leave the token"));
        }
        if !has(&Attribute::ValueLen(KEY_BYTES.into())) {
            return Err(unfit("it does not have 256 bits"));
        }
        if has(&Attribute::Encrypt(true)) && has(&Attribute::Decrypt(true)) {
            return Ok(Way::Gcm);
        }
        if has(&Attribute::Wrap(true)) && has(&Attribute::Unwrap(true)) {
            return Ok(Way::WrapPad);
        }
        Err(unfit(
            "it may neither encrypt and decrypt nor wrap and unwrap",
        ))
    }
}

impl fmt::Debug for TokenAesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenAesKey({})", self.name)
    }
}

fn way_of_making(session: &TokenSession) -> Result<Way, TokenError> {
    if session.knows(MechanismType::AES_GCM)? {
        return Ok(Way::Gcm);
    }
    match session.knows(MechanismType::AES_KEY_WRAP_PAD)? {
        true => Ok(Way::WrapPad),
        false => Err(TokenError::Answer(
            "a list of mechanisms with a way to wrap",
        )),
    }
}

fn gcm(
    session: &Session,
    key: ObjectHandle,
    nonce: [u8; NONCE],
    label: &[u8],
    text: &[u8],
) -> Result<Vec<u8>, TokenError> {
    let mut given = nonce;
    let mechanism = gcm_mechanism(&mut given, label)?;
    let sealed = session
        .encrypt(&mechanism, key, text)
        .map_err(TokenError::failed("encrypt by AES-GCM"))?;
    drop(mechanism);
    // A token that takes no nonce of ours writes its own over it.
    if given != nonce || sealed.len() != text.len() + 16 {
        return Err(TokenError::Answer("an AES-GCM text under our nonce"));
    }
    Ok(sealed)
}

fn gcm_mechanism<'a>(
    nonce: &'a mut [u8; NONCE],
    label: &'a [u8],
) -> Result<Mechanism<'a>, TokenError> {
    GcmParams::new(nonce.as_mut_slice(), label, TAG_BITS.into())
        .map(Mechanism::AesGcm)
        .map_err(TokenError::failed("take a label"))
}

fn wrap_pad(session: &Session, key: ObjectHandle, secret: &[u8]) -> Result<Vec<u8>, TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Value(secret.to_vec()),
    ];
    let data_key = session
        .create_object(&template)
        .map_err(TokenError::failed("take a data key"))?;
    let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, key, data_key);
    session
        .destroy_object(data_key)
        .map_err(TokenError::failed("forget a data key"))?;
    wrapped.map_err(TokenError::failed("wrap by AES-KEY-WRAP-PAD"))
}

fn unwrap_pad(
    session: &Session,
    key: ObjectHandle,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let data_key = session
        .unwrap_key(&Mechanism::AesKeyWrapPad, key, wrapped, &template)
        .map_err(TokenError::failed("open a wrapped key"))?;
    let told = session.get_attributes(data_key, &[AttributeType::Value]);
    session
        .destroy_object(data_key)
        .map_err(TokenError::failed("forget a data key"))?;
    let told = told.map_err(TokenError::failed("tell a data key"))?;
    match told.into_iter().next() {
        Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
        _ => Err(TokenError::Answer("a data key")),
    }
}
