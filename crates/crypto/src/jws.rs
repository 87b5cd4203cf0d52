//! Signatures of JSON Web Signatures (RFC 7518 §3) by keys that others made. Verification only.
//!
//! Refused: `none`, every algorithm with a shared secret, RSA below 2048 bits, and a key for an
//! algorithm of another kind: they have no type here.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::backend;
use crate::signing::BadSignature;

const LEAST_RSA_BYTES: usize = 256;
const MOST_RSA_BYTES: usize = 1024;
const MOST_EXPONENT_BYTES: usize = 4;
const UNCOMPRESSED: u8 = 0x04;

/// An `alg` that is verified with a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JwsAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// With SHA-384.
    Ps384,
    /// With SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519 (RFC 8037).
    EdDsa,
}

/// A public key. Its kind decides by which algorithms it verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct JwsKey(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// An `alg` that is not verified here: unknown, `none`, or one with a shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the algorithm is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA")]
pub struct UnknownAlgorithm;

/// Numbers that make no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwsKeyError {
    /// Too small, too large, or with leading zeros.
    #[error("an RSA key has a modulus of 2048 to 8192 bits and an odd exponent of 32 bits at most")]
    Rsa,
    /// Coordinates of another length.
    #[error("the point has not the length of its curve's")]
    Point,
}

const NAMES: [(JwsAlgorithm, &str); 9] = [
    (JwsAlgorithm::Rs256, "RS256"),
    (JwsAlgorithm::Rs384, "RS384"),
    (JwsAlgorithm::Rs512, "RS512"),
    (JwsAlgorithm::Ps256, "PS256"),
    (JwsAlgorithm::Ps384, "PS384"),
    (JwsAlgorithm::Ps512, "PS512"),
    (JwsAlgorithm::Es256, "ES256"),
    (JwsAlgorithm::Es384, "ES384"),
    (JwsAlgorithm::EdDsa, "EdDSA"),
];

impl JwsKey {
    /// From modulus and exponent, big-endian.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, JwsKeyError> {
        let starts_with = |least| modulus.first().is_some_and(|byte| *byte >= least);
        let long_enough = match modulus.len() {
            LEAST_RSA_BYTES => starts_with(0x80),
            length => (LEAST_RSA_BYTES..=MOST_RSA_BYTES).contains(&length) && starts_with(1),
        };
        let odd = exponent.last().is_some_and(|byte| byte & 1 == 1) && exponent != [1];
        let short = exponent.len() <= MOST_EXPONENT_BYTES && exponent.first() != Some(&0);
        if !(long_enough && odd && short) {
            return Err(JwsKeyError::Rsa);
        }
        Ok(Self(Kind::Rsa {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        }))
    }

    /// From the coordinates of a point on P-256. Whether it lies on the curve is judged by each
    /// verification.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, JwsKeyError> {
        point(x, y, 32).map(Kind::P256).map(Self)
    }

    /// The same on P-384.
    pub fn p384(x: &[u8], y: &[u8]) -> Result<Self, JwsKeyError> {
        point(x, y, 48).map(Kind::P384).map(Self)
    }

    /// From an encoded public key (RFC 8032 §5.1.5).
    pub fn ed25519(key: &[u8]) -> Result<Self, JwsKeyError> {
        match key.len() {
            32 => Ok(Self(Kind::Ed25519(key.to_vec()))),
            _ => Err(JwsKeyError::Point),
        }
    }

    /// Whether the algorithm is one for keys of this kind.
    #[must_use]
    pub fn fits(&self, algorithm: JwsAlgorithm) -> bool {
        use JwsAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match &self.0 {
            Kind::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Kind::P256(_) => algorithm == Es256,
            Kind::P384(_) => algorithm == Es384,
            Kind::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Checks a signature of `message`, encoded as RFC 7518 says.
    pub fn verify(
        &self,
        algorithm: JwsAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        if !self.fits(algorithm) {
            return Err(BadSignature);
        }
        match &self.0 {
            Kind::Rsa { modulus, exponent } => {
                backend::verify_rsa(algorithm, (modulus, exponent), message, signature)
            }
            Kind::P256(key) | Kind::P384(key) | Kind::Ed25519(key) => {
                backend::verify_jws(algorithm, key, message, signature)
            }
        }
        .map_err(|_| BadSignature)
    }
}

fn point(x: &[u8], y: &[u8], length: usize) -> Result<Vec<u8>, JwsKeyError> {
    if x.len() != length || y.len() != length {
        return Err(JwsKeyError::Point);
    }
    Ok([&[UNCOMPRESSED], x, y].concat())
}

impl FromStr for JwsAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        let known = NAMES.iter().find(|(_, name)| *name == text);
        known
            .map(|(algorithm, _)| *algorithm)
            .ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for JwsAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.iter().find(|(algorithm, _)| algorithm == self);
        f.write_str(known.map_or("", |(_, name)| name))
    }
}

impl fmt::Debug for JwsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Rsa { .. } => "JwsKey(RSA)",
            Kind::P256(_) => "JwsKey(P-256)",
            Kind::P384(_) => "JwsKey(P-384)",
            Kind::Ed25519(_) => "JwsKey(Ed25519)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::SigningKey;

    /// A key, and its signature of `m` with `r` and `s` side by side.
    fn signed() -> (JwsKey, Vec<u8>) {
        let key = SigningKey::generate();
        let spki = key.public_key().spki();
        let (x, y) = spki[spki.len() - 64..].split_at(32);
        (JwsKey::p256(x, y).unwrap(), raw(&key.sign(b"m")))
    }

    /// From `SEQUENCE { INTEGER r, INTEGER s }`.
    fn raw(der: &[u8]) -> Vec<u8> {
        let r_length = usize::from(der[3]);
        let (r, rest) = der[4..].split_at(r_length);
        let padded = |integer: &[u8]| {
            let digits: Vec<u8> = integer
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect();
            [vec![0; 32 - digits.len()], digits].concat()
        };
        [padded(r), padded(&rest[2..])].concat()
    }

    #[test]
    fn algorithms_that_prove_nothing_are_not_known() {
        for name in [
            "none", "None", "HS256", "HS384", "HS512", "rs256", "ES256K", "",
        ] {
            assert_eq!(
                name.parse::<JwsAlgorithm>(),
                Err(UnknownAlgorithm),
                "{name}"
            );
        }
    }

    #[test]
    fn every_name_is_read_as_it_is_shown() {
        for (algorithm, name) in NAMES {
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!(algorithm.to_string(), name);
        }
    }

    #[test]
    fn small_and_padded_rsa_keys_are_refused() {
        let exponent = [1, 0, 1];
        let (small, mut large) = (vec![0xff; 255], vec![0xff; 257]);
        assert_eq!(JwsKey::rsa(&small, &exponent), Err(JwsKeyError::Rsa));
        large[0] = 0;
        assert_eq!(JwsKey::rsa(&large, &exponent), Err(JwsKeyError::Rsa));
        for exponent in [&[][..], &[1], &[2], &[0, 3], &[1, 0, 0, 0, 1]] {
            assert_eq!(JwsKey::rsa(&[0xff; 256], exponent), Err(JwsKeyError::Rsa));
        }
    }

    #[test]
    fn points_of_another_length_are_refused() {
        assert_eq!(JwsKey::p256(&[1; 32], &[1; 31]), Err(JwsKeyError::Point));
        assert_eq!(JwsKey::p384(&[1; 32], &[1; 32]), Err(JwsKeyError::Point));
        assert_eq!(JwsKey::ed25519(&[1; 33]), Err(JwsKeyError::Point));
    }

    #[test]
    fn a_key_of_another_kind_verifies_nothing() {
        let (key, signature) = signed();
        for (algorithm, _) in NAMES {
            let fits = algorithm == JwsAlgorithm::Es256;
            assert_eq!(key.fits(algorithm), fits);
            assert_eq!(key.verify(algorithm, b"m", &signature).is_ok(), fits);
        }
    }

    #[test]
    fn a_signature_of_another_message_is_refused() {
        let (key, signature) = signed();
        let verify = |message| key.verify(JwsAlgorithm::Es256, message, &signature);
        assert_eq!(verify(b"n"), Err(BadSignature));
        assert_eq!(verify(b"m"), Ok(()));
    }
}
