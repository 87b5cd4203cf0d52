//! Certificates that Gateways name, read again when their files change.
//!
//! Invariant: a pair that cannot be used leaves the one before it in place, and says why; nothing
//! is read but what [`Granted`] lets through.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mtls::web::{WebCertificate, WebCertificateError};
use policy::CertificateFiles;

use crate::granted::{Granted, NotGranted, Stamp};

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
    pub(crate) fn refresh(&mut self, wanted: &BTreeSet<Files>) -> bool {
        self.kept.retain(|files, _| wanted.contains(files));
        let mut different = false;
        for files in wanted {
            let kept = self.kept.entry(files.clone()).or_default();
            different |= kept.refresh(files, &self.granted);
        }
        different
    }

    /// Of a pair that was wanted.
    pub(crate) fn get(&self, files: &Files) -> Option<&Kept> {
        self.kept.get(files)
    }
}

impl Kept {
    fn refresh(&mut self, files: &Files, granted: &Granted) -> bool {
        let stamps = files.stamps(granted);
        if let Ok(stamps) = &stamps
            && self.stamps == Some(*stamps)
        {
            return false;
        }
        let read = stamps.and_then(|stamps| Ok((stamps, files.read(granted)?)));
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

    fn read(&self, granted: &Granted) -> Result<WebCertificate, Unusable> {
        let certificate = granted.read(&self.certificate)?;
        let key = granted.read_secret(&self.key)?;
        WebCertificate::from_pem(&certificate, &key).map_err(|source| {
            let path = match source {
                WebCertificateError::PrivateKey(_) => &self.key,
                _ => &self.certificate,
            };
            Unusable::Certificate {
                path: path.clone(),
                source,
            }
        })
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

    use runtime::files::write_private;

    use super::*;

    /// Not a certificate of anybody, but PEM.
    const NO_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    fn files(folder: &Path) -> Files {
        Files {
            certificate: folder.join("tls.pem"),
            key: folder.join("tls.key"),
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_again_when_it_is_another_thing() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        let wanted = BTreeSet::from([files.clone()]);
        let granted = Granted::new(folder.path(), "gateway.certificates");
        let mut certificates = Certificates::new(granted);
        assert!(certificates.refresh(&wanted) && !certificates.refresh(&wanted));
        fs::write(&files.certificate, NO_CERTIFICATE).unwrap();
        write_private(&files.key, b"no key").unwrap();
        assert!(certificates.refresh(&wanted) && !certificates.refresh(&wanted));
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
        certificates.refresh(&BTreeSet::from([files.clone()]));
        certificates.refresh(&BTreeSet::new());
        assert!(certificates.get(&files).is_none());
    }
}
