//! The sealed cache: what an agent needs to serve at once after a restart, without the CA.
//!
//! Invariants: each file is sealed with AES-256-GCM under a key of its own file (0600), bound to
//! its purpose, and replaced whole. A file that does not open, or does not parse, is reported and
//! ignored as a whole. A key file that exists and cannot be used stops the agent; it never goes on
//! unsealed.

mod stored;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crypto::random::SystemRandom;
use crypto::sealing::SealingKey;
use prost::Message;
use runtime::FileError;
use runtime::files::{read_private, write_private};

pub(crate) use stored::{
    StoredConfiguration, StoredCredentials, StoredJoining, StoredRecovery, StoredSvid,
};

/// The cache's directory and key. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    key: Arc<SealingKey>,
}

/// Why the cache cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("the cache's key file cannot be used")]
    KeyFile(#[source] FileError),
    #[error("{} does not hold a 32-byte key; restore it, or remove it and the sealed files", .0.display())]
    KeyLength(PathBuf),
    #[error("the cache cannot be written")]
    Write(#[source] FileError),
}

/// A kind of content, with its file.
pub(crate) trait Sealed: Message + Default {
    const NAME: &'static str;
}

impl Cache {
    /// Reads the key, or makes one where there is none.
    pub(crate) fn open(directory: &Path, key_file: &Path) -> Result<Self, CacheError> {
        let key = match read_private(key_file) {
            Ok(bytes) => {
                let bytes = <[u8; 32]>::try_from(bytes.as_slice())
                    .map_err(|_| CacheError::KeyLength(key_file.to_owned()))?;
                SealingKey::from_bytes(bytes)
            }
            Err(error) if error.is_not_found() => {
                let key = SealingKey::generate(&mut SystemRandom);
                write_private(key_file, &*key.bytes()).map_err(CacheError::KeyFile)?;
                key
            }
            Err(error) => return Err(CacheError::KeyFile(error)),
        };
        Ok(Self {
            directory: directory.to_owned(),
            key: Arc::new(key),
        })
    }

    /// What was stored, if it is whole. Anything else is logged and ignored.
    pub(crate) fn load<T: Sealed>(&self) -> Option<T> {
        let path = self.path::<T>();
        let sealed = match read_private(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                tracing::error!(%error, "cached file cannot be read and is ignored");
                return None;
            }
        };
        let Ok(plain) = self.key.open(&associated_data::<T>(), &sealed) else {
            tracing::error!(
                path = %path.display(),
                "cached file was not sealed by this key, or was changed; it is ignored"
            );
            return None;
        };
        match T::decode(plain.as_slice()) {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cached file is ignored");
                None
            }
        }
    }

    /// Replaces what is stored; durable when it returns.
    pub(crate) async fn store<T: Sealed + 'static>(&self, value: T) -> Result<(), CacheError> {
        let cache = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let plain = zeroize::Zeroizing::new(value.encode_to_vec());
            let sealed = cache.key.seal(&associated_data::<T>(), &plain);
            write_private(cache.path::<T>(), &sealed).map_err(CacheError::Write)
        });
        written
            .await
            .expect("sealing and writing do not panic, and are not cancelled")
    }

    /// Removes what is stored.
    pub(crate) fn forget<T: Sealed>(&self) {
        if let Err(error) = std::fs::remove_file(self.path::<T>())
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = T::NAME, "cached file cannot be removed");
        }
    }

    fn path<T: Sealed>(&self) -> PathBuf {
        self.directory.join(format!("{}.sealed", T::NAME))
    }
}

/// Binds a file to its purpose: one cannot be put in another's place.
fn associated_data<T: Sealed>() -> Vec<u8> {
    format!("countersign-agent-cache-v1\0{}", T::NAME).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        cache: Cache,
    }

    fn key_file(directory: &Path) -> PathBuf {
        directory.join("cache.key")
    }

    fn fixture() -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), &key_file(directory.path())).unwrap();
        Fixture { directory, cache }
    }

    fn joining() -> StoredJoining {
        StoredJoining {
            token_id: "t1".to_owned(),
            key: b"a private key".to_vec(),
        }
    }

    #[tokio::test]
    async fn key_file_that_others_can_read_stops_the_agent() {
        let fixture = fixture();
        let key_file = key_file(fixture.directory.path());
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Cache::open(fixture.directory.path(), &key_file);
        assert!(matches!(
            refused,
            Err(CacheError::KeyFile(FileError::Exposed { mode: 0o644, .. }))
        ));
    }

    #[tokio::test]
    async fn key_of_the_wrong_length_stops_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        write_private(key_file(directory.path()), b"short").unwrap();
        let refused = Cache::open(directory.path(), &key_file(directory.path()));
        assert!(matches!(refused, Err(CacheError::KeyLength(_))));
    }

    #[tokio::test]
    async fn any_changed_byte_makes_the_file_ignored() {
        let Fixture { directory, cache } = fixture();
        cache.store(joining()).await.unwrap();
        let path = directory.path().join("joining.sealed");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        write_private(&path, &bytes).unwrap();
        assert_eq!(cache.load::<StoredJoining>(), None);
    }

    #[tokio::test]
    async fn file_in_the_place_of_another_is_ignored() {
        let Fixture { directory, cache } = fixture();
        cache.store(joining()).await.unwrap();
        let here = directory.path().join("joining.sealed");
        fs::rename(here, directory.path().join("credentials.sealed")).unwrap();
        assert!(cache.load::<StoredCredentials>().is_none());
    }

    #[tokio::test]
    async fn lost_key_makes_the_cache_ignored() {
        let Fixture { directory, cache } = fixture();
        cache.store(joining()).await.unwrap();
        fs::remove_file(key_file(directory.path())).unwrap();
        let cache = Cache::open(directory.path(), &key_file(directory.path())).unwrap();
        assert_eq!(cache.load::<StoredJoining>(), None);
    }

    #[tokio::test]
    async fn stored_value_survives_a_restart_and_is_not_readable_on_disk() {
        let Fixture { directory, cache } = fixture();
        cache.store(joining()).await.unwrap();
        let sealed = fs::read(directory.path().join("joining.sealed")).unwrap();
        let again = Cache::open(directory.path(), &key_file(directory.path())).unwrap();
        assert_eq!(again.load::<StoredJoining>(), Some(joining()));
        assert!(!sealed.windows(7).any(|window| window == b"private"));
    }
}
