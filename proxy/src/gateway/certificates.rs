//! Certificates that Gateways name, read again when their files change.
//!
//! Invariant: a pair that cannot be used leaves the one before it in place, and says why; one that
//! has expired, or is not valid yet, cannot be used. Nothing is read but what [`Granted`] lets
//! through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use identity::Validity;
use mtls::web::{WebCertificate, WebCertificateError};
use policy::CertificateFiles;
use time::OffsetDateTime;

use crate::granted::{Granted, NotGranted, Stamp};

/// Told before a certificate expires: a sixth of its life, but no more than this. Who renews at a
/// third, as is usual, has had a third of its life to try.
const LONGEST_NOTICE: Duration = Duration::from_secs(14 * 24 * 3600);

/// A certificate's file and its key's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Certificates {
    granted: Granted,
    kept: BTreeMap<Files, Kept>,
}

/// A pair of files.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    stamps: Option<[Stamp; 2]>,
    /// What was usable last.
    pub(crate) certificate: Option<WebCertificate>,
    /// Why what is there now is not.
    pub(crate) problem: Option<String>,
}

/// Why a pair of files cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    File(#[from] NotGranted),
    #[error("{}", path.display())]
    Certificate {
        path: PathBuf,
        source: WebCertificateError,
    },
    #[error("{}: the certificate expired at {at}", path.display())]
    Expired { path: PathBuf, at: OffsetDateTime },
    #[error("{}: the certificate is not valid before {from}", path.display())]
    NotYetValid { path: PathBuf, from: OffsetDateTime },
}

impl Certificates {
    pub(crate) fn new(granted: Granted) -> Self {
        Self {
            granted,
            kept: BTreeMap::new(),
        }
    }

    /// Reads what is wanted and new, and forgets what is not wanted any more. Returns whether
    /// anything is different.
    pub(crate) fn refresh(&mut self, wanted: &BTreeSet<Files>, now: OffsetDateTime) -> bool {
        self.kept.retain(|files, _| wanted.contains(files));
        let mut different = false;
        for files in wanted {
            let kept = self.kept.entry(files.clone()).or_default();
            different |= kept.refresh(files, &self.granted, now);
        }
        different
    }

    /// Of a pair that was wanted.
    pub(crate) fn get(&self, files: &Files) -> Option<&Kept> {
        self.kept.get(files)
    }
}

impl Kept {
    /// When the certificate that is shown expires, if that is soon.
    pub(crate) fn expires_soon(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let validity = self.certificate.as_ref()?.validity();
        let notice = (validity.life() / 6).min(LONGEST_NOTICE);
        (validity.remaining(now) < notice).then(|| validity.not_after())
    }

    fn refresh(&mut self, files: &Files, granted: &Granted, now: OffsetDateTime) -> bool {
        let has_lapsed = |it: &mut WebCertificate| !it.validity().contains(now);
        let lapsed = self.certificate.take_if(has_lapsed).is_some();
        if lapsed {
            self.stamps = None;
        }
        self.read(files, granted, now) || lapsed
    }

    fn read(&mut self, files: &Files, granted: &Granted, now: OffsetDateTime) -> bool {
        let stamps = files.stamps(granted);
        if let Ok(stamps) = &stamps
            && self.stamps == Some(*stamps)
        {
            return false;
        }
        let read = stamps.and_then(|stamps| Ok((stamps, files.read(granted, now)?)));
        match read {
            Ok((stamps, certificate)) => {
                *self = Self {
                    stamps: Some(stamps),
                    certificate: Some(certificate),
                    problem: None,
                };
                true
            }
            Err(error) => {
                let problem = Some(runtime::exit::one_line(&error));
                let different = self.problem != problem;
                self.problem = problem;
                // What is half written now is whole a moment later, perhaps with the same stamps.
                self.stamps = None;
                different
            }
        }
    }
}

impl Files {
    /// Taken before the files are read: what changes in between is read again.
    fn stamps(&self, granted: &Granted) -> Result<[Stamp; 2], Unusable> {
        Ok([granted.stamp(&self.certificate)?, granted.stamp(&self.key)?])
    }

    fn read(&self, granted: &Granted, now: OffsetDateTime) -> Result<WebCertificate, Unusable> {
        let certificate = granted.read(&self.certificate)?;
        let key = granted.read_secret(&self.key)?;
        let read = WebCertificate::from_pem(&certificate, &key).map_err(|source| {
            let path = match source {
                WebCertificateError::PrivateKey(_) => &self.key,
                _ => &self.certificate,
            };
            Unusable::Certificate {
                path: path.clone(),
                source,
            }
        })?;
        self.check(read.validity(), now)?;
        Ok(read)
    }

    fn check(&self, validity: Validity, now: OffsetDateTime) -> Result<(), Unusable> {
        let (path, from, at) = (
            self.certificate.clone(),
            validity.not_before(),
            validity.not_after(),
        );
        if now > at {
            return Err(Unusable::Expired { path, at });
        }
        if now < from {
            return Err(Unusable::NotYetValid { path, from });
        }
        Ok(())
    }
}

impl From<&CertificateFiles> for Files {
    fn from(files: &CertificateFiles) -> Self {
        Self {
            certificate: PathBuf::from(&files.certificate),
            key: PathBuf::from(&files.key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use runtime::files::write_private;
    use tempfile::TempDir;
    use time::macros::datetime;

    use super::*;

    /// Not a certificate of anybody, but PEM.
    const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn files(folder: &Path) -> Files {
        Files {
            certificate: folder.join("tls.pem"),
            key: folder.join("tls.key"),
        }
    }

    const NOW: OffsetDateTime = datetime!(2030-01-10 00:00 UTC);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A pair of files, and what was read of them.
    struct Pair {
        folder: TempDir,
        certificates: Certificates,
    }

    impl Pair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let granted = Granted::new(folder.path(), "gateway.certificates");
            Self {
                certificates: Certificates::new(granted),
                folder,
            }
        }

        /// Writes one that is valid from so many days before [`NOW`] until so many after.
        fn write(&self, before: i64, after: i64) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            params.not_before = NOW - time::Duration::days(before);
            params.not_after = NOW + time::Duration::days(after);
            let certificate = params.self_signed(&key).unwrap().pem();
            let files = files(self.folder.path());
            write_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
            write_private(&files.certificate, certificate.as_bytes()).unwrap();
        }

        /// Whether anything is different, and what there is.
        fn at(&mut self, now: OffsetDateTime) -> (bool, &Kept) {
            let files = files(self.folder.path());
            let different = self
                .certificates
                .refresh(&BTreeSet::from([files.clone()]), now);
            (different, self.certificates.get(&files).unwrap())
        }
    }

    #[test]
    fn a_certificate_that_is_not_valid_now_is_not_shown_and_says_why() {
        for (before, after, why) in [(9, -1, "expired at"), (-1, 9, "not valid before")] {
            let mut pair = Pair::new();
            pair.write(before, after);
            let (_, kept) = pair.at(NOW);
            assert!(kept.certificate.is_none(), "{why}");
            let problem = kept.problem.as_deref().unwrap();
            assert!(problem.contains(why), "{problem}");
        }
    }

    #[test]
    fn a_certificate_that_expires_is_shown_no_longer_and_that_is_told_once() {
        let mut pair = Pair::new();
        pair.write(9, 1);
        assert!(pair.at(NOW + DAY).1.certificate.is_some());
        let (different, kept) = pair.at(NOW + 2 * DAY);
        assert!(different && kept.certificate.is_none());
        assert!(kept.problem.as_deref().unwrap().contains("expired at"));
        assert!(!pair.at(NOW + 2 * DAY).0);
    }

    #[test]
    fn one_that_has_expired_leaves_the_one_before_it_in_place_until_that_expires() {
        let mut pair = Pair::new();
        pair.write(9, 2);
        pair.at(NOW);
        pair.write(9, -1);
        let (_, kept) = pair.at(NOW);
        assert!(kept.certificate.is_some() && kept.problem.is_some());
        assert!(pair.at(NOW + 3 * DAY).1.certificate.is_none());
    }

    #[test]
    fn that_a_certificate_will_expire_is_told_a_sixth_of_its_life_before_at_most_two_weeks() {
        let soon = |before, after, now| {
            let mut pair = Pair::new();
            pair.write(before, after);
            pair.at(now).1.expires_soon(now)
        };
        assert_eq!(soon(0, 6, NOW + 5 * DAY - DAY / 24), None);
        let end = NOW + 6 * DAY;
        assert_eq!(soon(0, 6, end - DAY + DAY / 24), Some(end));
        assert_eq!(soon(0, 365, NOW + 350 * DAY), None);
        let end = NOW + 365 * DAY;
        assert_eq!(soon(0, 365, NOW + 352 * DAY), Some(end));
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_again_when_it_is_another_thing() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let wanted = BTreeSet::from([files.clone()]);
        let granted = Granted::new(folder.path(), "gateway.certificates");
        let mut certificates = Certificates::new(granted);
        assert!(certificates.refresh(&wanted, NOW) && !certificates.refresh(&wanted, NOW));
        fs::write(&files.certificate, NO_CERTIFICATE).unwrap();
        write_private(&files.key, b"no key").unwrap();
        assert!(certificates.refresh(&wanted, NOW) && !certificates.refresh(&wanted, NOW));
        let kept = certificates.get(&files).unwrap();
        assert!(kept.certificate.is_none());
        let problem = kept.problem.as_deref().unwrap();
        assert!(problem.contains("tls.key"), "{problem}");
    }

    #[test]
    fn what_nobody_wants_any_more_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let granted = Granted::new(folder.path(), "gateway.certificates");
        let mut certificates = Certificates::new(granted);
        certificates.refresh(&BTreeSet::from([files.clone()]), NOW);
        certificates.refresh(&BTreeSet::new(), NOW);
        assert!(certificates.get(&files).is_none());
    }
}
