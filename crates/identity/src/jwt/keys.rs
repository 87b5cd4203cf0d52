//! The public keys of an issuer (RFC 7517 §5), bounded in size and number.
//!
//! Keys of other kinds, for other uses, or that cannot be read are left out, as RFC 7517 §5 asks
//! for: an issuer may add what we do not know. A set without a usable key is refused.

use crypto::jws::{JwsAlgorithm, JwsKey};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

const MAX_BYTES: usize = 256 * 1024;
const MAX_KEYS: usize = 128;

/// Keys that verify signatures.
#[derive(Debug, Clone)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    /// The only one that it may be used with.
    algorithm: Option<JwsAlgorithm>,
    key: JwsKey,
}

/// Why a document holds no keys.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeySetError {
    #[error("a set of keys has at most 262144 bytes, this one has {bytes}")]
    TooLarge { bytes: usize },
    #[error("a set of keys has at most 128 keys, this one has {count}")]
    TooMany { count: usize },
    #[error("it is no JSON Web Key Set: {0}")]
    Malformed(String),
    #[error("it holds no public key that verifies signatures by an algorithm known here")]
    NoUsableKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWK Set.
    pub fn from_json(text: &[u8]) -> Result<Self, KeySetError> {
        if text.len() > MAX_BYTES {
            return Err(KeySetError::TooLarge { bytes: text.len() });
        }
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            let count = document.keys.len();
            return Err(KeySetError::TooMany { count });
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeySetError::NoUsableKey);
        }
        Ok(Self(keys))
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The keys that a token with this `kid` and `alg` may have been signed by: of a token without
    /// `kid`, every one that fits.
    pub(super) fn candidates(
        &self,
        id: Option<&str>,
        algorithm: JwsAlgorithm,
    ) -> impl Iterator<Item = &JwsKey> {
        let named = move |key: &&Key| id.is_none_or(|id| key.id.as_deref() == Some(id));
        let fits = move |key: &&Key| {
            key.key.fits(algorithm) && key.algorithm.is_none_or(|only| only == algorithm)
        };
        self.0.iter().filter(named).filter(fits).map(|key| &key.key)
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let operations = jwk.key_ops.as_ref();
        let verifies = operations.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !(signs && verifies) {
            return None;
        }
        let algorithm = jwk.alg.as_deref().map(str::parse).transpose().ok()?;
        let key = jwk.key()?;
        if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
            return None;
        }
        Some(Self {
            key,
            algorithm,
            id: jwk.kid,
        })
    }
}

impl Jwk {
    fn key(&self) -> Option<JwsKey> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => JwsKey::rsa(&bytes(&self.n)?, &bytes(&self.e)?).ok(),
            ("EC", Some("P-256")) => JwsKey::p256(&bytes(&self.x)?, &bytes(&self.y)?).ok(),
            ("EC", Some("P-384")) => JwsKey::p384(&bytes(&self.x)?, &bytes(&self.y)?).ok(),
            ("OKP", Some("Ed25519")) => JwsKey::ed25519(&bytes(&self.x)?).ok(),
            _ => None,
        }
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_ref()?.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn set(keys: &Value) -> Result<KeySet, KeySetError> {
        KeySet::from_json(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn p256(more: &Value) -> Value {
        let coordinate = BASE64URL_NOPAD.encode(&[7; 32]);
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate});
        let fields = more.as_object().unwrap().clone();
        key.as_object_mut().unwrap().extend(fields);
        key
    }

    #[test]
    fn keys_that_verify_nothing_are_left_out() {
        let unusable = json!([
            {"kty": "oct", "k": "c2VjcmV0"},
            {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
            p256(&json!({"use": "enc"})),
            p256(&json!({"key_ops": ["sign"]})),
            p256(&json!({"alg": "RS256"})),
            p256(&json!({"alg": "ECDH-ES"})),
            p256(&json!({"x": "AA=="})),
            "no key",
        ]);
        assert_eq!(set(&unusable).err(), Some(KeySetError::NoUsableKey));
    }

    #[test]
    fn sets_beyond_the_bounds_are_refused() {
        let many: Vec<_> = (0..129).map(|_| p256(&json!({}))).collect();
        let refused = set(&json!(many)).err();
        assert_eq!(refused, Some(KeySetError::TooMany { count: 129 }));
        let large = vec![b' '; MAX_BYTES + 1];
        let refused = KeySet::from_json(&large).err();
        assert_eq!(
            refused,
            Some(KeySetError::TooLarge {
                bytes: MAX_BYTES + 1
            })
        );
    }

    #[test]
    fn a_key_is_found_by_its_id_alone_where_the_token_names_one() {
        let keys = set(&json!([p256(&json!({"kid": "a"})), p256(&json!({}))])).unwrap();
        let found = |id| keys.candidates(id, JwsAlgorithm::Es256).count();
        assert_eq!((found(Some("b")), found(Some("a")), found(None)), (0, 1, 2));
    }

    #[test]
    fn a_key_is_used_with_its_own_algorithm_only() {
        let keys = set(&json!([p256(&json!({"alg": "ES256"}))])).unwrap();
        assert_eq!(keys.candidates(None, JwsAlgorithm::Rs256).count(), 0);
        assert_eq!(keys.candidates(None, JwsAlgorithm::Es256).count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_bytes_make_the_reader_panic(text: Vec<u8>) {
            let _ = KeySet::from_json(&text);
        }
    }
}
