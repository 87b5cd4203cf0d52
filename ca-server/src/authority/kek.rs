//! The key-encryption key: 64 hexadecimal digits in a file that only its owner can read, in a
//! credential of systemd, or in the environment; or a key of a token, which never leaves it. What is
//! in a file is read when the sealed root must be opened, and not kept; what is in the environment
//! is read once. All of it may block.
//!
//! Refuses to make a key where there could be one already, and to pass for another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crypto::digest::constant_time_eq;
use crypto::random::SystemRandom;
use crypto::sealing::{OpenError, SealingKey};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use runtime::FileError;
use zeroize::Zeroizing;

use crate::config::{KekPlace, KeysConfig};
use crate::pkcs11::{Token, TokenAesKey, TokenError};

const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// An opened key-encryption key; what is in memory is wiped on drop.
#[derive(Debug)]
pub(crate) struct Kek {
    check: [u8; 16],
    key: Key,
}

#[derive(Debug)]
enum Key {
    Held(SealingKey),
    Token(TokenAesKey),
}

/// Knows where the key-encryption key is. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct KekSource {
    place: KekPlace,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    Credential { directory: PathBuf, name: String },
    Read(Arc<SealingKey>),
    Token(TokenAesKey),
}

/// Why the key-encryption key is not to be had. Places are named as the configuration does.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    #[error(
        "the key-encryption key {0} does not exist; if the store holds a sealed root, restore the \
         key, for no other opens it"
    )]
    Missing(KekPlace),
    #[error("key-encryption key {0} is not 64 hexadecimal digits")]
    Malformed(KekPlace),
    #[error("the key-encryption key {0} is not the one that sealed this store")]
    Wrong(KekPlace),
    #[error("{0} holds the key-encryption key that is in use already")]
    Same(KekPlace),
    #[error(
        "the key-encryption key is to be {0}, but systemd gave this process no credentials; see \
         LoadCredential= in systemd.exec(5)"
    )]
    NoCredentials(KekPlace),
    #[error("the key-encryption key cannot be used")]
    File(#[from] FileError),
    #[error("the key-encryption key is to be {0}, but `[keys.pkcs11]` names no token")]
    NoToken(KekPlace),
    #[error("the key-encryption key cannot be used")]
    Token(#[from] TokenError),
}

/// Why a wrapped key did not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnwrapError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl KekSource {
    /// Reads now what is read once.
    pub(crate) fn of(keys: &KeysConfig) -> Result<Self, KekError> {
        Self::with_environment(keys, &environment)
    }

    fn with_environment(
        keys: &KeysConfig,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, KekError> {
        let place = &keys.kek;
        let origin = match place {
            KekPlace::File(path) => Origin::File(path.clone()),
            KekPlace::Credential(name) => {
                let directory = environment(CREDENTIALS_DIRECTORY);
                let directory = directory.ok_or_else(|| KekError::NoCredentials(place.clone()))?;
                Origin::Credential {
                    directory: directory.into(),
                    name: name.as_str().to_owned(),
                }
            }
            KekPlace::Environment(name) => {
                let text = environment(name.as_str());
                let text = text.ok_or_else(|| KekError::Missing(place.clone()))?;
                let text = Zeroizing::new(text.into_encoded_bytes());
                tracing::warn!(
                    variable = name.as_str(),
                    "the key-encryption key is in the environment, where every process of this user \
                     can read it; prefer a file or a credential"
                );
                Origin::Read(Arc::new(digits(&text, place)?))
            }
            KekPlace::Token(name) => {
                let token = keys.pkcs11.clone();
                let token = token.ok_or_else(|| KekError::NoToken(place.clone()))?;
                let directory = environment(CREDENTIALS_DIRECTORY).map(PathBuf::from);
                Origin::Token(TokenAesKey::new(Token::new(token, directory), name.clone()))
            }
        };
        Ok(Self {
            place: place.clone(),
            origin,
        })
    }

    /// The key, which must exist.
    pub(crate) fn open(&self) -> Result<Kek, KekError> {
        let text = match &self.origin {
            Origin::File(path) => runtime::files::read_private(path),
            Origin::Credential { directory, name } => runtime::read_credential(directory, name),
            Origin::Read(key) => return Ok(SealingKey::from_bytes(*key.bytes()).into()),
            Origin::Token(key) => return self.open_in_token(key),
        };
        let text = text.map_err(|error| match error.is_not_found() {
            true => KekError::Missing(self.place.clone()),
            false => KekError::File(error),
        })?;
        digits(&text, &self.place).map(Kek::from)
    }

    /// The key, which must be the one with this check value.
    pub(super) fn open_expecting(&self, check: &[u8; 16]) -> Result<Kek, KekError> {
        let kek = self.open()?;
        match constant_time_eq(&kek.check_value(), check) {
            true => Ok(kek),
            false => Err(KekError::Wrong(self.place.clone())),
        }
    }

    /// The key, which is made where that can be done. Only for what is not sealed by it yet.
    pub(super) fn open_or_make(&self) -> Result<Kek, KekError> {
        match (self.open(), &self.origin) {
            (Err(KekError::Missing(_)), Origin::File(path)) => self.make(path),
            (Err(KekError::Missing(_)), Origin::Token(key)) => {
                key.make()?;
                self.open_in_token(key)
            }
            (found, _) => found,
        }
    }

    fn open_in_token(&self, key: &TokenAesKey) -> Result<Kek, KekError> {
        let check = key.check_value().map_err(|error| match error {
            TokenError::NoKey(_) => KekError::Missing(self.place.clone()),
            other => KekError::Token(other),
        })?;
        let key = Key::Token(key.clone());
        Ok(Kek { check, key })
    }

    fn make(&self, path: &Path) -> Result<Kek, KekError> {
        if let Some(directory) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            runtime::files::private_directory(directory)?;
        }
        let key = SealingKey::generate(&mut SystemRandom);
        let mut text = Zeroizing::new(HEXLOWER.encode(key.bytes().as_slice()));
        text.push('\n');
        // Another replica on this host may be making one too: the first stands.
        match runtime::files::create_private(path, text.as_bytes())? {
            true => Ok(key.into()),
            false => self.open(),
        }
    }

    pub(super) fn place(&self) -> &KekPlace {
        &self.place
    }
}

impl Kek {
    /// A data key, as the store keeps it.
    pub(super) fn wrap(&self, label: &[u8], data_key: &[u8]) -> Result<Vec<u8>, TokenError> {
        match &self.key {
            Key::Held(key) => Ok(key.seal(label, data_key)),
            Key::Token(key) => key.wrap(label, data_key),
        }
    }

    pub(super) fn unwrap(
        &self,
        label: &[u8],
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        match &self.key {
            Key::Held(key) => Ok(key.open(label, wrapped)?),
            Key::Token(key) => Ok(key.unwrap(label, wrapped)?),
        }
    }

    /// By which a wrong key is told before anything is written with it.
    pub(crate) fn check_value(&self) -> [u8; 16] {
        self.check
    }
}

impl From<SealingKey> for Kek {
    fn from(key: SealingKey) -> Self {
        Self {
            check: key.check_value(),
            key: Key::Held(key),
        }
    }
}

/// The directory of systemd's credentials, if it gave any.
pub(super) fn credentials_directory() -> Option<PathBuf> {
    environment(CREDENTIALS_DIRECTORY).map(PathBuf::from)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the configuration names the variable, and clap cannot know it"
)]
fn environment(name: &str) -> Option<OsString> {
    std::env::var(name).ok().map(OsString::from)
}

fn digits(text: &[u8], place: &KekPlace) -> Result<SealingKey, KekError> {
    let malformed = || KekError::Malformed(place.clone());
    let digits = text.trim_ascii();
    if digits.len() != 64 {
        return Err(malformed());
    }
    let mut bytes = Zeroizing::new([0_u8; 32]);
    HEXLOWER_PERMISSIVE
        .decode_mut(digits, bytes.as_mut_slice())
        .map_err(|_| malformed())?;
    Ok(SealingKey::from_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory_with(content: &str, mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    fn keys(kek: &str) -> KeysConfig {
        let file = KeysConfig::file("/nowhere".into());
        let kek = kek.parse().unwrap();
        KeysConfig { kek, ..file }
    }

    fn file(directory: &tempfile::TempDir) -> KekSource {
        KekSource::of(&KeysConfig::file(directory.path().join("kek"))).unwrap()
    }

    fn credential(directory: &tempfile::TempDir) -> KekSource {
        let directory = directory.path().as_os_str().to_owned();
        let environment = |name: &str| (name == CREDENTIALS_DIRECTORY).then(|| directory.clone());
        KekSource::with_environment(&keys("credential:kek"), &environment).unwrap()
    }

    fn variable(value: Option<&str>) -> Result<KekSource, KekError> {
        KekSource::with_environment(&keys("env:KEK"), &|_| value.map(OsString::from))
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let directory = directory_with(&"ab".repeat(31), 0o600);
        for source in [file(&directory), credential(&directory)] {
            assert!(matches!(source.open(), Err(KekError::Malformed(_))));
        }
        let refused = variable(Some("ab"));
        assert!(matches!(refused, Err(KekError::Malformed(_))));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = directory_with(&"ab".repeat(32), 0o644);
        for source in [file(&directory), credential(&directory)] {
            assert!(matches!(
                source.open(),
                Err(KekError::File(FileError::Exposed { .. }))
            ));
        }
    }

    #[test]
    fn a_missing_key_is_never_made_by_reading() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(file(&directory).open(), Err(KekError::Missing(_))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_file_is_ever_made() {
        let directory = tempfile::tempdir().unwrap();
        let refused = credential(&directory).open_or_make();
        assert!(matches!(refused, Err(KekError::Missing(_))));
        assert!(matches!(variable(None), Err(KekError::Missing(_))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_key_of_a_token_needs_the_token() {
        let refused = KekSource::of(&keys("pkcs11:kek"));
        assert!(matches!(refused, Err(KekError::NoToken(_))));
    }

    #[test]
    fn without_systemd_there_are_no_credentials() {
        let refused = KekSource::with_environment(&keys("credential:kek"), &|_| None);
        assert!(matches!(refused, Err(KekError::NoCredentials(_))));
    }

    #[test]
    fn a_made_key_is_private_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys").join("kek");
        let source = KekSource::of(&KeysConfig::file(path.clone())).unwrap();
        let made = source.open_or_make().unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(source.open().unwrap().check_value(), made.check_value());
    }

    #[test]
    fn the_same_digits_are_the_same_key_wherever_they_are() {
        let text = "ab".repeat(32);
        let directory = directory_with(&text, 0o400);
        let expected = SealingKey::from_bytes([0xab; 32]).check_value();
        let sources = [
            file(&directory),
            credential(&directory),
            variable(Some(&text)).unwrap(),
        ];
        for source in sources {
            assert_eq!(source.open().unwrap().check_value(), expected);
        }
    }
}
