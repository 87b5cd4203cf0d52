//! Certificate revocation lists (RFC 5280 §5), for validators that know no deny-list of ours.
//!
//! Invariant: a list is signed by the authority that signed what it lists, has a number and an end,
//! and reasons that RFC 5280 §5.3.1 names.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};
use time::OffsetDateTime;

use super::authority::{Authority, IssueError};
use super::root::SigningFacts;
use crate::serial::SerialNumber;

/// What one list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlSpec {
    pub this_update: OffsetDateTime,
    pub next_update: OffsetDateTime,
    /// Grows with each list of the same authority (RFC 5280 §5.2.3).
    pub number: u64,
    pub revoked: Vec<RevokedCertificate>,
}

/// One certificate of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    pub serial: SerialNumber,
    pub at: OffsetDateTime,
}

impl Authority {
    /// A list of certificates that this authority signed, as DER.
    ///
    /// # Errors
    /// It ends before it begins, or the authority's certificate lets it sign no lists
    /// (RFC 5280 §4.2.1.3, cRLSign).
    pub fn sign_crl(&self, spec: &CrlSpec) -> Result<Vec<u8>, IssueError> {
        let revoked = spec.revoked.iter().map(|revoked| RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(revoked.serial.as_bytes()),
            revocation_time: revoked.at,
            reason_code: Some(RevocationReason::PrivilegeWithdrawn),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: spec.this_update,
            next_update: spec.next_update,
            crl_number: rcgen::SerialNumber::from(spec.number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: self.key_identifier(),
        };
        let signed = list.signed_by(self.issuer())?;
        Ok(signed.der().to_vec())
    }

    /// As its certificate says it (RFC 5280 §5.2.1): others than we may have made that.
    fn key_identifier(&self) -> KeyIdMethod {
        let facts = SigningFacts::check(self.certificate()).ok();
        let own = facts.and_then(|facts| facts.subject_key_id);
        own.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crypto::random::SystemRandom;
    use crypto::signing::SigningKey;
    use rcgen::{BasicConstraints, CertificateParams, KeyUsagePurpose};
    use rustls_pki_types::{CertificateDer, UnixTime};
    use time::macros::datetime;
    use webpki::{
        BorrowedCertRevocationList, EndEntityCert, ExpirationPolicy, RevocationOptionsBuilder,
    };
    use x509_parser::prelude::{CertificateRevocationList, FromDer, ParsedExtension};

    use super::super::LeafSpec;
    use super::super::authority::{authority_name, authority_params};
    use super::*;
    use crate::validity::Validity;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn authority() -> Authority {
        made_with(|_| {})
    }

    /// A root, and what `change` did to it.
    fn made_with(change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let validity = Validity::try_new(NOW, NOW + time::Duration::DAY).unwrap();
        let (key, serial) = (
            SigningKey::generate(),
            SerialNumber::random(&mut SystemRandom),
        );
        let (domain, depth) = ("td.test".parse().unwrap(), BasicConstraints::Unconstrained);
        let name = authority_name("root", serial, None);
        let mut params = authority_params(&domain, name, validity, serial, depth).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Authority::load(certificate.into(), key).unwrap()
    }

    fn spec(revoked: Vec<RevokedCertificate>) -> CrlSpec {
        CrlSpec {
            this_update: NOW,
            next_update: NOW + time::Duration::HOUR,
            number: 7,
            revoked,
        }
    }

    #[test]
    fn a_list_that_ends_before_it_begins_is_not_signed() {
        let refused = authority().sign_crl(&CrlSpec {
            next_update: NOW,
            ..spec(Vec::new())
        });
        assert_eq!(
            refused,
            Err(IssueError::Encoding(rcgen::Error::InvalidCrlNextUpdate))
        );
    }

    #[test]
    fn an_authority_whose_certificate_forbids_lists_signs_none() {
        let authority = made_with(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
        assert_eq!(
            authority.sign_crl(&spec(Vec::new())),
            Err(IssueError::Encoding(rcgen::Error::IssuerNotCrlSigner))
        );
    }

    #[test]
    fn a_list_names_its_authority_by_the_key_id_of_the_certificate() {
        let named = KeyIdMethod::PreSpecified(vec![1, 2, 3]);
        let authority = made_with(|params| params.key_identifier_method = named);
        let der = authority.sign_crl(&spec(Vec::new())).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&der).unwrap();
        let named = list
            .extensions()
            .iter()
            .find_map(|it| match it.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
                _ => None,
            });
        assert_eq!(named.unwrap().0, [1, 2, 3]);
    }

    #[test]
    fn webpki_refuses_by_the_list_what_it_names_and_nothing_else() {
        let (authority, key) = (authority(), SigningKey::generate());
        let [revoked, good] = [(); 2].map(|()| {
            let leaf = LeafSpec {
                spiffe_id: "spiffe://td.test/ns/shop/sa/orders".parse().unwrap(),
                public_key: *key.public_key(),
                validity: Validity::try_new(NOW, NOW + time::Duration::HOUR).unwrap(),
                serial: SerialNumber::random(&mut SystemRandom),
                dns_names: Vec::new(),
            };
            (leaf.serial, authority.issue(&leaf).unwrap().certificate)
        });
        let named = RevokedCertificate {
            serial: revoked.0,
            at: NOW,
        };
        let list = authority.sign_crl(&spec(vec![named])).unwrap();
        let minute = NOW + time::Duration::MINUTE;
        let at = |leaf, at| by_webpki(&authority, leaf, &list, at);
        assert_eq!(at(&revoked.1, minute), Err(webpki::Error::CertRevoked));
        assert_eq!(at(&good.1, minute), Ok(()));
        let ended = at(&good.1, NOW + time::Duration::HOUR).unwrap_err();
        assert!(matches!(
            ended,
            webpki::Error::CertExpired { .. } | webpki::Error::CrlExpired { .. }
        ));
    }

    fn by_webpki(
        authority: &Authority,
        leaf: &CertificateDer<'_>,
        list: &[u8],
        at: OffsetDateTime,
    ) -> Result<(), webpki::Error> {
        let list = BorrowedCertRevocationList::from_der(list).unwrap().into();
        let lists = [&list];
        let revocation = RevocationOptionsBuilder::new(&lists)
            .unwrap()
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        let anchor = webpki::anchor_from_trusted_cert(authority.certificate()).unwrap();
        let seconds = u64::try_from(at.unix_timestamp()).unwrap();
        let (leaf, anchors) = (EndEntityCert::try_from(leaf)?, [anchor]);
        let path = leaf.verify_for_usage(
            crypto::provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            webpki::KeyUsage::client_auth(),
            Some(revocation),
            None,
        );
        path.map(drop)
    }

    #[test]
    fn a_list_names_what_was_revoked_its_authority_its_number_and_its_end() {
        let serial = SerialNumber::random(&mut SystemRandom);
        let authority = authority();
        let der = authority.sign_crl(&spec(vec![RevokedCertificate { serial, at: NOW }]));
        let der = der.unwrap();
        let (rest, list) = CertificateRevocationList::from_der(&der).unwrap();
        let (_, issuer) =
            x509_parser::certificate::X509Certificate::from_der(authority.certificate()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(list.issuer(), issuer.subject());
        assert_eq!(
            list.crl_number().map(ToString::to_string),
            Some("7".to_owned())
        );
        let listed: Vec<_> = list
            .iter_revoked_certificates()
            .map(|it| SerialNumber::from_bytes(it.raw_serial()).unwrap())
            .collect();
        assert_eq!(listed, [serial]);
        let end = list.next_update().unwrap().to_datetime();
        assert_eq!(end, NOW + time::Duration::HOUR);
    }
}
