//! A bundle as a JWK Set (SPIFFE_Trust_Domain_and_Bundle.md §4, X509-SVID.md §6), both ways.
//!
//! What is written obeys every MUST of an issuer. What is read: keys of other uses and kinds are
//! ignored, a certificate that breaks the rules spoils the document, and a document without a
//! usable key is a bundle without roots, which trusts nothing.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use x509_parser::public_key::PublicKey;

use super::bundle::{Bundle, BundleError};
use super::certificate::Certificate;
use super::root::RootCertificate;
use crate::trust_domain::TrustDomain;

const MAX_DOCUMENT: usize = 1024 * 1024;
const X509_SVID: &str = "x509-svid";

/// A bundle document with what it says beside the roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleDocument {
    /// Its sequence is 0 where the document has none.
    pub bundle: Bundle,
    pub sequence: Option<u64>,
    /// How often to look for a newer one; about five minutes where there is none.
    pub refresh_hint: Option<Duration>,
}

impl BundleDocument {
    /// A document does not name its trust domain (requirement 93): the caller knows it.
    pub fn parse(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_DOCUMENT {
            return Err(JwksError::TooLarge { bytes: json.len() });
        }
        let document: Document = serde_json::from_slice(json).map_err(|error| JwksError::Json {
            line: error.line(),
            column: error.column(),
        })?;
        let mut roots = Vec::new();
        for (index, key) in document.keys.iter().enumerate() {
            roots.extend(key.x509_root(index)?);
        }
        Ok(Self {
            bundle: Bundle::new(trust_domain, document.sequence.unwrap_or(0), roots)?,
            sequence: document.sequence,
            refresh_hint: document.refresh_hint.map(Duration::from_secs),
        })
    }
}

impl Bundle {
    /// This bundle as JSON. Requirements 52-54, 80, 82-87 and 90-92: `kty` and `use` on each key,
    /// no `kid`, one certificate in `x5c`, and nothing that is not defined.
    pub fn to_jwks(&self, refresh_hint: Option<Duration>) -> Result<String, JwksError> {
        let keys = self
            .authorities()
            .iter()
            .enumerate()
            .map(|(index, root)| jwk(root).ok_or(JwksError::UnsupportedKey { index }))
            .collect::<Result<Vec<_>, _>>()?;
        let mut document = Map::new();
        document.insert("keys".to_owned(), Value::Array(keys));
        document.insert("spiffe_sequence".to_owned(), json!(self.sequence()));
        if let Some(hint) = refresh_hint {
            document.insert("spiffe_refresh_hint".to_owned(), json!(hint.as_secs()));
        }
        Ok(Value::Object(document).to_string())
    }
}

/// Why a document is not a bundle, or a bundle cannot be written as one. Indexes count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwksError {
    #[error("a bundle document has at most 1 MiB, this one has {bytes} bytes")]
    TooLarge { bytes: usize },
    #[error("the bundle is not a JWK Set, see line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("`x5c` of key {index} is not a list of certificates in base64")]
    X5c { index: usize },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("root {index} has a kind of key that a bundle document cannot name")]
    UnsupportedKey { index: usize },
}

/// Unknown members are ignored and none but `keys` is required (requirements 81, 87).
#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
    #[serde(rename = "spiffe_sequence")]
    sequence: Option<u64>,
    #[serde(rename = "spiffe_refresh_hint")]
    refresh_hint: Option<u64>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    #[serde(rename = "use")]
    key_use: Option<String>,
    x5c: Option<Value>,
}

impl Jwk {
    /// The DER of the root that this key is; none for a key to be ignored.
    fn x509_root(&self, index: usize) -> Result<Option<Vec<u8>>, JwksError> {
        // Requirement 88: unknown `kty`, unknown or missing `use`, both case-sensitive.
        let is_known = matches!(self.kty.as_deref(), Some("EC" | "RSA"));
        if !is_known || self.key_use.as_deref() != Some(X509_SVID) {
            return Ok(None);
        }
        let certificates = match &self.x5c {
            None => return Ok(None),
            Some(Value::Array(certificates)) => certificates,
            Some(_) => return Err(JwksError::X5c { index }),
        };
        // Requirements 56, 57: no or an empty `x5c` is ignored, and only the first value counts.
        let Some(first) = certificates.first() else {
            return Ok(None);
        };
        let text = first.as_str().ok_or(JwksError::X5c { index })?;
        match BASE64.decode(text.as_bytes()) {
            Ok(der) => Ok(Some(der)),
            Err(_) => Err(JwksError::X5c { index }),
        }
    }
}

fn jwk(root: &RootCertificate) -> Option<Value> {
    let certificate = Certificate::parse(root.der()).ok()?;
    let mut key = match certificate.parsed_key().parsed().ok()? {
        PublicKey::EC(point) => {
            let algorithm = &certificate.parsed_key().algorithm;
            let curve = algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            let (name, length) = match curve.as_str() {
                "1.2.840.10045.3.1.7" => ("P-256", 32),
                "1.3.132.0.34" => ("P-384", 48),
                "1.3.132.0.35" => ("P-521", 66),
                _ => return None,
            };
            let coordinates = point.data().strip_prefix(&[4])?;
            if coordinates.len() != 2 * length {
                return None;
            }
            let (x, y) = coordinates.split_at(length);
            let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
            json!({"kty": "EC", "crv": name, "x": x, "y": y})
        }
        PublicKey::RSA(rsa) => {
            let number = |bytes: &[u8]| {
                let first = bytes.iter().position(|&octet| octet != 0);
                BASE64URL_NOPAD.encode(&bytes[first.unwrap_or(bytes.len())..])
            };
            json!({"kty": "RSA", "n": number(rsa.modulus), "e": number(rsa.exponent)})
        }
        _ => return None,
    };
    key["use"] = json!(X509_SVID);
    key["x5c"] = json!([BASE64.encode(root.der())]);
    Some(key)
}

#[cfg(test)]
mod tests;
