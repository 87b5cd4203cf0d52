//! The listener for people and pipelines, with a certificate from files: TLS 1.2 and 1.3, and
//! never a client certificate. Refuses a key that does not belong to the certificate.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::config::{self, ServerTlsConfig};

/// A configuration from PEM text: the chain, leaf first, and its unencrypted private key (PKCS#8;
/// PKCS#1 and SEC1 where the backend reads them).
pub fn server_config_from_pem(
    certificates: &[u8],
    key: &[u8],
    alpn: &[&[u8]],
) -> Result<ServerTlsConfig, WebCertificateError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(WebCertificateError::Certificates)?;
    if chain.is_empty() {
        return Err(WebCertificateError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(WebCertificateError::PrivateKey)?;
    let key = CertifiedKey::from_der(chain, key, &crypto::provider())
        .map_err(|error| WebCertificateError::Refused(Box::new(error)))?;
    Ok(config::web_server(Arc::new(key), config::owned(alpn)))
}

/// Why certificate files cannot be used.
#[derive(Debug, Error)]
pub enum WebCertificateError {
    /// The certificate file is not PEM.
    #[error("the certificate file is not PEM")]
    Certificates(#[source] pem::Error),
    /// The certificate file holds no certificate.
    #[error("the certificate file holds no certificate")]
    NoCertificate,
    /// The key file holds no private key that can be read.
    #[error("the key file holds no unencrypted private key in PEM")]
    PrivateKey(#[source] pem::Error),
    /// Key and certificate do not belong together, or the key's kind is not supported.
    #[error("the private key cannot be used with the certificate")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::version::TLS12;
    use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
    use rustls_pki_types::ServerName;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::accept;

    fn certificate_and_key() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[track_caller]
    fn refused(certificates: &str, key: &str) -> WebCertificateError {
        server_config_from_pem(certificates.as_bytes(), key.as_bytes(), &[]).unwrap_err()
    }

    #[test]
    fn a_file_without_certificate_is_refused() {
        let (_, key) = certificate_and_key();
        assert!(matches!(
            refused("", &key),
            WebCertificateError::NoCertificate
        ));
    }

    #[test]
    fn a_file_without_key_is_refused() {
        let (certificate, _) = certificate_and_key();
        let refused = refused(&certificate, &certificate);
        assert!(matches!(refused, WebCertificateError::PrivateKey(_)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let ((certificate, _), (_, key)) = (certificate_and_key(), certificate_and_key());
        assert!(matches!(
            refused(&certificate, &key),
            WebCertificateError::Refused(_)
        ));
    }

    #[tokio::test]
    async fn a_browser_of_tls_1_2_is_served_and_asked_for_no_certificate() {
        let (certificate, key) = certificate_and_key();
        let config =
            server_config_from_pem(certificate.as_bytes(), key.as_bytes(), &[b"h2"]).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("ca.example").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (accepted, connected) =
            tokio::join!(accept(far, config), connector.connect(name, near));
        assert!(accepted.unwrap().peer().is_none());
        let version = connected.unwrap().get_ref().1.protocol_version();
        assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_text_makes_the_reader_panic(certificates: Vec<u8>, key: Vec<u8>) {
            prop_assert!(server_config_from_pem(&certificates, &key, &[]).is_err());
        }
    }
}
