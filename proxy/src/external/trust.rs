//! Who may vouch for hosts outside: authorities from files, read again when they change.
//!
//! Invariant: an External that names a file gets the authorities of that file and no others, and
//! the file is one that this host's configuration grants.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mtls::web::{SYSTEM_ROOTS, WebCertificateError, WebClientConfig, WebRoots};
use policy::Roots;
use runtime::Clock;
use tokio::time::Instant;

use crate::granted::{Granted, NotGranted, Stamp};

/// Files are looked at again after this, when a connection is made.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// All authorities that were asked for, for every worker. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Trust {
    granted: Option<Granted>,
    clock: Clock,
    files: Arc<Mutex<Files>>,
}

#[derive(Default)]
struct Files {
    kept: HashMap<PathBuf, Kept>,
    /// What could not be used, and when that was seen: not each call looks again.
    refused: HashMap<PathBuf, (Instant, Arc<NoRoots>)>,
}

/// How to handshake with hosts that some authorities vouch for.
#[derive(Debug)]
pub(crate) struct Trusted {
    /// Told apart from what was there before: connections never outlive what they were made by.
    pub(crate) generation: u64,
    pub(crate) config: WebClientConfig,
    /// For requests that HTTP/2 does not know.
    pub(crate) http1: WebClientConfig,
}

struct Kept {
    looked: Instant,
    stamp: Stamp,
    trusted: Arc<Trusted>,
}

/// Why nobody is believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoots {
    #[error("`external.roots` of this proxy's configuration grants no folder for {}", path.display())]
    NotConfigured { path: PathBuf },
    #[error("this system has no authorities in any of the usual places")]
    NoSystem,
    #[error("the authorities cannot be read")]
    File(#[from] NotGranted),
    #[error("the authorities in {} cannot be used", path.display())]
    Certificates {
        path: PathBuf,
        source: WebCertificateError,
    },
}

impl Trust {
    /// `folder` holds the files that an External may name.
    pub(crate) fn new(folder: Option<&Path>, clock: Clock) -> Self {
        Self {
            granted: folder.map(|it| Granted::new(it, "external.roots")),
            clock,
            files: Arc::default(),
        }
    }

    /// # Errors
    /// If there are none that could be believed.
    pub(crate) fn of(&self, roots: &Roots, now: Instant) -> Result<Arc<Trusted>, Arc<NoRoots>> {
        match roots {
            Roots::System => {
                let mut usual = SYSTEM_ROOTS.into_iter().map(PathBuf::from);
                let found = usual.find(|it| it.is_file());
                // The paths are ours, wherever the system's links lead.
                let everywhere = Granted::new(Path::new("/"), "system");
                let found = found.ok_or_else(|| Arc::new(NoRoots::NoSystem))?;
                self.read(found, &everywhere, now)
            }
            Roots::File(path) => {
                let path = PathBuf::from(path);
                match &self.granted {
                    Some(granted) => self.read(path, granted, now),
                    None => Err(NoRoots::NotConfigured { path }.into()),
                }
            }
        }
    }

    fn read(
        &self,
        path: PathBuf,
        granted: &Granted,
        now: Instant,
    ) -> Result<Arc<Trusted>, Arc<NoRoots>> {
        // A half-made value is never left behind.
        let files = &mut *self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.kept.get(&path)
            && now < known.looked + LOOK_AGAIN
        {
            return Ok(Arc::clone(&known.trusted));
        }
        if let Some((looked, refusal)) = files.refused.get(&path)
            && now < *looked + LOOK_AGAIN
        {
            return Err(Arc::clone(refusal));
        }
        match self.look(&mut files.kept, path.clone(), granted, now) {
            Ok(trusted) => {
                files.refused.remove(&path);
                Ok(trusted)
            }
            Err(error) => {
                let refusal = Arc::new(error);
                files.refused.insert(path, (now, Arc::clone(&refusal)));
                Err(refusal)
            }
        }
    }

    fn look(
        &self,
        kept: &mut HashMap<PathBuf, Kept>,
        path: PathBuf,
        granted: &Granted,
        now: Instant,
    ) -> Result<Arc<Trusted>, NoRoots> {
        let stamp = granted.stamp(&path)?;
        let generation = match kept.get_mut(&path) {
            Some(known) if known.stamp == stamp => {
                known.looked = now;
                return Ok(Arc::clone(&known.trusted));
            }
            Some(known) => known.trusted.generation + 1,
            None => 0,
        };
        let roots = WebRoots::from_pem(&granted.read(&path)?).map_err(|source| {
            let path = path.clone();
            NoRoots::Certificates { path, source }
        })?;
        let config = |alpn: &[&[u8]]| {
            let clock = self.clock.clone();
            roots.client_config(alpn, move || clock.now())
        };
        let trusted = Arc::new(Trusted {
            generation,
            config: config(&ALPN),
            http1: config(&ALPN[1..]),
        });
        let known = Kept {
            looked: now,
            stamp,
            trusted: Arc::clone(&trusted),
        };
        kept.insert(path, known);
        Ok(trusted)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("granted", &self.granted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_refused_where_nothing_is_granted() {
        let trust = Trust::new(None, Clock::system());
        let refused = trust.of(&Roots::File("/roots.pem".into()), Instant::now());
        assert!(matches!(
            *refused.unwrap_err(),
            NoRoots::NotConfigured { .. }
        ));
    }

    #[test]
    fn a_file_elsewhere_or_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(Some(folder.path()), Clock::system());
        let refused = trust.of(&Roots::File("/etc/hosts".into()), Instant::now());
        assert!(matches!(
            *refused.unwrap_err(),
            NoRoots::File(NotGranted::Outside { .. })
        ));
        let path = folder.path().join("roots.pem");
        fs::write(&path, "none").unwrap();
        let path = path.to_str().unwrap().to_owned();
        let refused = trust.of(&Roots::File(path), Instant::now());
        assert!(matches!(
            *refused.unwrap_err(),
            NoRoots::Certificates { .. }
        ));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_not_read_for_each_call() {
        let folder = tempfile::tempdir().unwrap();
        let trust = Trust::new(Some(folder.path()), Clock::system());
        let path = folder.path().join("roots.pem");
        fs::write(&path, "none").unwrap();
        let roots = Roots::File(path.to_str().unwrap().to_owned());
        let now = Instant::now();
        let first = trust.of(&roots, now).unwrap_err();
        fs::remove_file(&path).unwrap();
        let soon = trust.of(&roots, now).unwrap_err();
        let later = trust.of(&roots, now + LOOK_AGAIN).unwrap_err();
        assert!(Arc::ptr_eq(&first, &soon));
        assert!(matches!(*later, NoRoots::File(_)), "{later:?}");
    }
}
