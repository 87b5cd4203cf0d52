//! Files that objects of the mesh's configuration name, and this host's configuration grants.
//!
//! Invariant: nothing is opened but regular files of a bounded size below the one folder that is
//! granted, wherever links lead. Who may write objects can choose among these files and no others.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use runtime::files::{FileError, read_private};
use zeroize::Zeroizing;

/// A collection of authorities has a few hundred kilobytes, a chain of certificates a few.
const MOST_BYTES: u64 = 1 << 20;

/// A folder, and the setting that grants it.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    folder: PathBuf,
    setting: &'static str,
}

/// Tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: (u64, u64),
    modified: (i64, i64),
    size: u64,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGranted {
    #[error("{} is not below {}, the folder that `{setting}` grants", path.display(), folder.display())]
    Outside {
        path: PathBuf,
        folder: PathBuf,
        setting: &'static str,
    },
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is no file of at most {MOST_BYTES} bytes", path.display())]
    NoFile { path: PathBuf },
    #[error(transparent)]
    Secret(#[from] FileError),
}

impl Granted {
    pub(crate) fn new(folder: &Path, setting: &'static str) -> Self {
        Self {
            folder: folder.to_owned(),
            setting,
        }
    }

    /// # Errors
    /// If the file is not granted, or cannot be looked at.
    pub(crate) fn stamp(&self, path: &Path) -> Result<Stamp, NotGranted> {
        let found = self.resolve(path)?;
        let metadata = fs::metadata(&found).map_err(|source| failed(path, source))?;
        if !metadata.is_file() || metadata.len() > MOST_BYTES {
            let path = path.to_owned();
            return Err(NotGranted::NoFile { path });
        }
        Ok(Stamp {
            file: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
        })
    }

    /// # Errors
    /// If the file is not granted, or cannot be read.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, NotGranted> {
        self.stamp(path)?;
        let opened = File::open(self.resolve(path)?);
        let mut bytes = Vec::new();
        opened
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
            .map_err(|source| failed(path, source))?;
        Ok(bytes)
    }

    /// # Errors
    /// As [`Granted::read`], and if others than this process's user could have read it.
    pub(crate) fn read_secret(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, NotGranted> {
        self.stamp(path)?;
        Ok(read_private(self.resolve(path)?)?)
    }

    /// Where it really is. The folder is asked first by name, so that nothing is told of others.
    fn resolve(&self, path: &Path) -> Result<PathBuf, NotGranted> {
        let outside = || NotGranted::Outside {
            path: path.to_owned(),
            folder: self.folder.clone(),
            setting: self.setting,
        };
        if !path.starts_with(&self.folder) {
            return Err(outside());
        }
        let real = |it: &Path| fs::canonicalize(it).map_err(|source| failed(it, source));
        let (folder, found) = (real(&self.folder)?, real(path)?);
        if found.starts_with(&folder) {
            Ok(found)
        } else {
            Err(outside())
        }
    }
}

fn failed(path: &Path, source: io::Error) -> NotGranted {
    NotGranted::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    /// A folder that is granted, with a file, beside a file that is not.
    fn place() -> (TempDir, Granted) {
        let place = tempfile::tempdir().unwrap();
        let granted = place.path().join("granted");
        fs::create_dir(&granted).unwrap();
        fs::write(granted.join("file"), "granted").unwrap();
        fs::write(place.path().join("other"), "other").unwrap();
        let granted = Granted::new(&granted, "gateway.certificates");
        (place, granted)
    }

    #[track_caller]
    fn outside(granted: &Granted, path: &Path) {
        let refused = granted.read(path).unwrap_err();
        assert!(matches!(refused, NotGranted::Outside { .. }), "{refused}");
    }

    #[test]
    fn a_file_elsewhere_is_refused_by_name_by_link_and_by_step() {
        let (place, granted) = place();
        let inside = place.path().join("granted");
        symlink(place.path().join("other"), inside.join("link")).unwrap();
        outside(&granted, &place.path().join("other"));
        outside(&granted, &inside.join("link"));
        outside(&granted, &inside.join("../other"));
        outside(&granted, &place.path().join("granted-not"));
    }

    #[test]
    fn a_folder_and_a_large_file_are_refused() {
        let (place, granted) = place();
        let large = place.path().join("granted/large");
        fs::write(&large, vec![0; 1 + (1 << 20)]).unwrap();
        for path in [&large, &place.path().join("granted")] {
            let refused = granted.read(path).unwrap_err();
            assert!(matches!(refused, NotGranted::NoFile { .. }), "{refused}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let (place, granted) = place();
        let path = place.path().join("granted/file");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let refused = granted.read_secret(&path).unwrap_err();
        assert!(matches!(
            refused,
            NotGranted::Secret(FileError::Exposed { .. })
        ));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(granted.read_secret(&path).unwrap().as_slice(), b"granted");
    }

    #[test]
    fn a_link_that_stays_inside_is_followed_and_a_new_content_is_another() {
        let (place, granted) = place();
        let (file, link) = (
            place.path().join("granted/file"),
            place.path().join("granted/link"),
        );
        symlink(&file, &link).unwrap();
        let before = granted.stamp(&link).unwrap();
        fs::write(place.path().join("granted/new"), "new").unwrap();
        fs::rename(place.path().join("granted/new"), &file).unwrap();
        assert_ne!(granted.stamp(&link).unwrap(), before);
        assert_eq!(granted.read(&link).unwrap(), b"new");
    }
}
