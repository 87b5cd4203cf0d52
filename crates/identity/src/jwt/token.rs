//! One token in compact form (RFC 7515 §3.1), and its judgement.

use crypto::digest::Sha256;
use crypto::jws::JwsAlgorithm;
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use thiserror::Error;
use time::{Duration, OffsetDateTime};

use super::keys::KeySet;

const MAX_BYTES: usize = 16 * 1024;
const MAX_KEY_ID: usize = 256;
/// How far the clocks of an issuer and ours may be apart.
const LEEWAY: Duration = Duration::seconds(60);
/// A token that is good for longer is no proof of the present.
const LONGEST_LIFE: Duration = Duration::hours(24);

/// A token as it was received; says nothing.
#[derive(Clone)]
pub struct UnverifiedJwt {
    algorithm: JwsAlgorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    signed: String,
    signature: Vec<u8>,
}

/// What a token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expectations<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub algorithms: &'a [JwsAlgorithm],
}

/// Evidence: what an issuer said, and says still.
#[derive(Debug, Clone)]
pub struct VerifiedJwt {
    claims: Map<String, Value>,
    expires_at: OffsetDateTime,
    digest: Sha256,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JwtError {
    #[error("a token has at most 16384 bytes")]
    TooLarge,
    #[error("the token is no JWS in compact form: {0}")]
    Malformed(&'static str),
    #[error("the token's `alg` is none of those that are verified here")]
    UnknownAlgorithm,
    #[error("the token is signed by {0}, which is not among those allowed for its issuer")]
    AlgorithmNotAllowed(JwsAlgorithm),
    /// The issuer may have new keys.
    #[error("the issuer has no key of the token's `kid` and `alg`")]
    UnknownKey,
    #[error("the token's signature does not verify")]
    Signature,
    #[error("the token's `iss` is not the one that is configured")]
    Issuer,
    #[error("the token's `aud` does not hold {0}")]
    Audience(String),
    #[error("the token's `{0}` is missing, or is no time")]
    Time(&'static str),
    #[error("the token expired at {at}")]
    Expired { at: OffsetDateTime },
    #[error("the token is not valid before {at}; compare the clocks")]
    NotYetValid { at: OffsetDateTime },
    #[error("the token is good until {at}, more than 24 hours from now")]
    TooLong { at: OffsetDateTime },
}

impl UnverifiedJwt {
    /// Reads a token, and judges nothing but its form.
    pub fn parse(text: &str) -> Result<Self, JwtError> {
        if text.len() > MAX_BYTES {
            return Err(JwtError::TooLarge);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(MALFORMED_PARTS)?;
        let (header, payload) = signed.split_once('.').ok_or(MALFORMED_PARTS)?;
        if payload.contains('.') {
            return Err(MALFORMED_PARTS);
        }
        let header = object(header, "its header is no JSON object in base64url")?;
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes());
        Ok(Self {
            algorithm: algorithm(&header)?,
            key_id: key_id(&header)?,
            claims: object(payload, "its payload is no JSON object in base64url")?,
            signed: signed.to_owned(),
            signature: signature
                .map_err(|_| JwtError::Malformed("its signature is not base64url"))?,
        })
    }

    /// Who it says has issued it: by this the keys are chosen that judge it.
    pub fn claimed_issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Judges signature, issuer, audience and times. 60 s of difference between the clocks are
    /// forgiven.
    pub fn verify(
        &self,
        keys: &KeySet,
        expected: Expectations<'_>,
        now: OffsetDateTime,
    ) -> Result<VerifiedJwt, JwtError> {
        if !expected.algorithms.contains(&self.algorithm) {
            return Err(JwtError::AlgorithmNotAllowed(self.algorithm));
        }
        self.check_signature(keys)?;
        if self.claimed_issuer() != Some(expected.issuer) {
            return Err(JwtError::Issuer);
        }
        if !self.is_for(expected.audience) {
            return Err(JwtError::Audience(expected.audience.to_owned()));
        }
        Ok(VerifiedJwt {
            expires_at: self.check_times(now)?,
            digest: Sha256::of(self.signed.as_bytes()),
            claims: self.claims.clone(),
        })
    }

    fn check_signature(&self, keys: &KeySet) -> Result<(), JwtError> {
        let mut outcome = Err(JwtError::UnknownKey);
        for key in keys.candidates(self.key_id.as_deref(), self.algorithm) {
            match key.verify(self.algorithm, self.signed.as_bytes(), &self.signature) {
                Ok(()) => return Ok(()),
                Err(_) => outcome = Err(JwtError::Signature),
            }
        }
        outcome
    }

    /// RFC 7519 §4.1.3: one audience, or a list of them.
    fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        }
    }

    fn check_times(&self, now: OffsetDateTime) -> Result<OffsetDateTime, JwtError> {
        let at = self.time("exp")?.ok_or(JwtError::Time("exp"))?;
        if now >= at + LEEWAY {
            return Err(JwtError::Expired { at });
        }
        if at - now > LONGEST_LIFE + LEEWAY {
            return Err(JwtError::TooLong { at });
        }
        for claim in ["nbf", "iat"] {
            if let Some(at) = self.time(claim)?.filter(|at| *at > now + LEEWAY) {
                return Err(JwtError::NotYetValid { at });
            }
        }
        Ok(at)
    }

    /// RFC 7519 §2, NumericDate: seconds, which may have a fraction.
    fn time(&self, claim: &'static str) -> Result<Option<OffsetDateTime>, JwtError> {
        let Some(value) = self.claims.get(claim) else {
            return Ok(None);
        };
        let seconds = match value.as_i64() {
            Some(seconds) => seconds,
            None => whole_seconds(value).ok_or(JwtError::Time(claim))?,
        };
        // Room for the sums above.
        let year = 365 * 24 * 60 * 60;
        let least = OffsetDateTime::UNIX_EPOCH.unix_timestamp();
        let most = time::macros::datetime!(9998-01-01 00:00 UTC).unix_timestamp() - year;
        if !(least..=most).contains(&seconds) {
            return Err(JwtError::Time(claim));
        }
        let at = OffsetDateTime::from_unix_timestamp(seconds);
        at.map(Some).map_err(|_| JwtError::Time(claim))
    }
}

impl VerifiedJwt {
    /// The claim at a JSON pointer (RFC 6901), such as `/kubernetes.io/namespace`.
    pub fn claim(&self, pointer: &str) -> Option<&Value> {
        let mut parts = pointer.strip_prefix('/')?.splitn(2, '/');
        let first = parts.next()?.replace("~1", "/").replace("~0", "~");
        let value = self.claims.get(&first)?;
        match parts.next() {
            Some(rest) => value.pointer(&format!("/{rest}")),
            None => Some(value),
        }
    }

    /// Its `exp`.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// SHA-256 of all that is signed. The signature is left out: of some kinds there are several
    /// for one and the same token.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }
}

impl std::fmt::Debug for UnverifiedJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UnverifiedJwt")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

const MALFORMED_PARTS: JwtError = JwtError::Malformed("it has not three parts");

fn object(text: &str, otherwise: &'static str) -> Result<Map<String, Value>, JwtError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
    let value = bytes
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.ok_or(JwtError::Malformed(otherwise))
}

fn algorithm(header: &Map<String, Value>) -> Result<JwsAlgorithm, JwtError> {
    if header.contains_key("crit") {
        return Err(JwtError::Malformed("its header has `crit`"));
    }
    if let Some(kind) = header.get("typ") {
        let known =
            |kind: &str| kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt");
        if !kind.as_str().is_some_and(known) {
            return Err(JwtError::Malformed("its `typ` is not JWT"));
        }
    }
    let name = header.get("alg").and_then(Value::as_str);
    let name = name.ok_or(JwtError::Malformed("its header has no `alg`"))?;
    name.parse().map_err(|_| JwtError::UnknownAlgorithm)
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, JwtError> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) if id.len() <= MAX_KEY_ID => Ok(Some(id.clone())),
        Some(_) => Err(JwtError::Malformed(
            "its `kid` is no text of 256 bytes at most",
        )),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates, and the bounds are checked by the caller"
)]
fn whole_seconds(value: &Value) -> Option<i64> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
    Some(seconds.floor() as i64)
}

#[cfg(test)]
mod tests;
