//! Certificate revocation lists (RFC 5280 §5), for validators that know no deny-list of ours.
//!
//! Invariant: a list is signed by the authority that signed what it lists, has a number and an end,
//! and reasons that RFC 5280 §5.3.1 names.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams};
use time::OffsetDateTime;

use super::authority::{Authority, IssueError};
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
    /// It ends before it begins.
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
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = list.signed_by(self.issuer())?;
        Ok(signed.der().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SystemRandom;
    use crypto::signing::SigningKey;
    use time::macros::datetime;
    use x509_parser::prelude::{CertificateRevocationList, FromDer};

    use super::*;
    use crate::validity::Validity;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn authority() -> Authority {
        let validity = Validity::try_new(NOW, NOW + time::Duration::DAY).unwrap();
        let (key, serial) = (
            SigningKey::generate(),
            SerialNumber::random(&mut SystemRandom),
        );
        Authority::new_root(&"td.test".parse().unwrap(), &key, validity, serial).unwrap()
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
