//! The key-encryption key: a file of 64 hexadecimal digits that only its owner can read. It is read
//! when the sealed root must be opened, and not kept.

use std::path::{Path, PathBuf};

use crypto::random::SystemRandom;
use crypto::sealing::SealingKey;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use runtime::FileError;
use zeroize::Zeroizing;

/// Why the key-encryption key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KekError {
    #[error(
        "the store holds a sealed root, but its key-encryption key {} does not exist; \
         restore the file", .0.display()
    )]
    Missing(PathBuf),
    #[error("key-encryption key {} is not 64 hexadecimal digits", .0.display())]
    Malformed(PathBuf),
    #[error("the key-encryption key {} is not the one that sealed this store", .0.display())]
    Wrong(PathBuf),
    #[error("{} holds the key-encryption key that is in use already", .0.display())]
    Same(PathBuf),
    #[error("the key-encryption key cannot be used")]
    File(#[from] FileError),
}

/// Reads the key at `path`, which must exist.
pub(super) fn read(path: &Path) -> Result<SealingKey, KekError> {
    let text = runtime::files::read_private(path).map_err(|error| {
        if error.is_not_found() {
            KekError::Missing(path.to_owned())
        } else {
            KekError::File(error)
        }
    })?;
    let malformed = || KekError::Malformed(path.to_owned());
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

/// Reads the key at `path`, or makes it. Only for what is not sealed by it yet.
pub(super) fn read_or_make(path: &Path) -> Result<SealingKey, KekError> {
    match read(path) {
        Err(KekError::Missing(_)) => {}
        found => return found,
    }
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
        true => Ok(key),
        false => read(path),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let (_directory, path) = file(&"ab".repeat(31), 0o600);
        assert!(matches!(read(&path), Err(KekError::Malformed(_))));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, path) = file(&"ab".repeat(32), 0o644);
        assert!(matches!(
            read(&path),
            Err(KekError::File(FileError::Exposed { .. }))
        ));
    }

    #[test]
    fn a_missing_key_is_never_made_by_reading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        assert!(matches!(read(&path), Err(KekError::Missing(_))));
        assert!(!path.exists());
    }

    #[test]
    fn a_made_key_is_private_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys").join("kek");
        let made = read_or_make(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read(&path).unwrap().check_value(), made.check_value());
    }
}
