//! The recovery key in files: an unencrypted PKCS#8 document or a SubjectPublicKeyInfo of a P-256
//! key, as PEM (RFC 7468), so that other tools can make one too. Refuses every other kind.

use crypto::signing::{KeyError, PublicKey, SigningKey};
use data_encoding::BASE64;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use thiserror::Error;
use zeroize::Zeroizing;

const LINE: usize = 64;

/// Why a file holds no recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecoveryKeyError {
    #[error("there is no PEM block `{0}` in it")]
    NotPem(&'static str),
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// # Errors
/// See [`RecoveryKeyError`].
pub fn public_from_pem(text: &[u8]) -> Result<PublicKey, RecoveryKeyError> {
    let spki = SubjectPublicKeyInfoDer::from_pem_slice(text)
        .map_err(|_| RecoveryKeyError::NotPem("PUBLIC KEY"))?;
    Ok(PublicKey::from_spki(&spki)?)
}

#[must_use]
pub fn public_to_pem(key: &PublicKey) -> String {
    pem("PUBLIC KEY", key.spki())
}

/// # Errors
/// See [`RecoveryKeyError`].
pub fn private_from_pem(text: &[u8]) -> Result<SigningKey, RecoveryKeyError> {
    let document = PrivatePkcs8KeyDer::from_pem_slice(text)
        .map_err(|_| RecoveryKeyError::NotPem("PRIVATE KEY"))?;
    Ok(SigningKey::from_pkcs8(document.secret_pkcs8_der())?)
}

#[must_use]
pub fn private_to_pem(key: &SigningKey) -> Zeroizing<String> {
    Zeroizing::new(pem("PRIVATE KEY", &key.to_pkcs8()))
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(BASE64.encode(der));
    // Enough from the start: a secret leaves no copy where a text has grown.
    let mut text = String::with_capacity(2 * body.len() + 128);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_is_no_private_key() {
        let text = public_to_pem(SigningKey::generate().public_key());
        let refused = private_from_pem(text.as_bytes()).err();
        assert_eq!(refused, Some(RecoveryKeyError::NotPem("PRIVATE KEY")));
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let text = pem("PUBLIC KEY", b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70");
        let refused = public_from_pem(text.as_bytes()).err();
        assert_eq!(refused, Some(RecoveryKeyError::Key(KeyError::Public)));
    }

    #[test]
    fn a_key_comes_back_as_it_was_written() {
        let key = SigningKey::generate();
        let again = private_from_pem(private_to_pem(&key).as_bytes()).unwrap();
        let public = public_from_pem(public_to_pem(key.public_key()).as_bytes());
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(public.as_ref(), Ok(key.public_key()));
    }
}
