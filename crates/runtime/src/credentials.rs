//! Credentials that systemd gives a service (`LoadCredential=`, `LoadCredentialEncrypted=`): files
//! in a directory of its own, which the manager made and nobody else can write.
//!
//! Refuses what systemd would not have made. It leaves a file to its service either by owner
//! (0400) or, owned by root, by an access list, whose mask shows as the group's right to read.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;
use zeroize::Zeroizing;

use crate::files::FileError;

/// Reads the credential `name` in the directory that systemd named.
///
/// # Errors
/// It cannot be read, or others could have read or written it.
pub fn read_credential(directory: &Path, name: &str) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let metadata =
        fs::metadata(directory).map_err(|source| FileError::io("open", directory, source))?;
    require_owner(directory, &metadata)?;
    require_closed(directory, &metadata, 0o022)?;
    let path = directory.join(name);
    let mut file = File::open(&path).map_err(|source| FileError::io("read", &path, source))?;
    let metadata = file
        .metadata()
        .map_err(|source| FileError::io("read", &path, source))?;
    require_owner(&path, &metadata)?;
    // On a file of root's it is the mask of an access list; of any other it is a group that reads.
    let is_roots = metadata.uid() == 0 && metadata.gid() == 0;
    require_closed(&path, &metadata, if is_roots { 0o037 } else { 0o077 })?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)
        .map_err(|source| FileError::io("read", &path, source))?;
    Ok(bytes)
}

fn require_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    let (owner, expected) = (metadata.uid(), geteuid().as_raw());
    if owner == expected || owner == 0 {
        return Ok(());
    }
    let path = path.to_owned();
    Err(FileError::WrongOwner {
        path,
        owner,
        expected,
    })
}

fn require_closed(path: &Path, metadata: &fs::Metadata, to: u32) -> Result<(), FileError> {
    let mode = metadata.mode() & 0o777;
    if mode & to == 0 {
        return Ok(());
    }
    let path = path.to_owned();
    Err(FileError::Exposed { path, mode })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn given(directory_mode: u32, file_mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("kek");
        fs::write(&file, "secret").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(file_mode)).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(directory_mode)).unwrap();
        directory
    }

    #[track_caller]
    fn exposed(directory_mode: u32, file_mode: u32, mode: u32) {
        let directory = given(directory_mode, file_mode);
        let error = read_credential(directory.path(), "kek").unwrap_err();
        assert!(
            matches!(error, FileError::Exposed { mode: found, .. } if found == mode),
            "{error}"
        );
    }

    #[test]
    fn what_others_can_read_or_change_is_refused() {
        exposed(0o700, 0o444, 0o444);
        exposed(0o700, 0o460, 0o460);
        exposed(0o702, 0o400, 0o702);
        exposed(0o770, 0o400, 0o770);
    }

    #[test]
    fn a_credential_that_is_not_there_is_told_from_one_that_cannot_be_used() {
        let directory = given(0o700, 0o400);
        let error = read_credential(directory.path(), "other").unwrap_err();
        assert!(error.is_not_found());
    }

    #[test]
    fn what_systemd_leaves_to_its_service_is_read() {
        for (directory_mode, file_mode) in [(0o700, 0o400), (0o500, 0o600), (0o755, 0o400)] {
            let directory = given(directory_mode, file_mode);
            let read = read_credential(directory.path(), "kek").unwrap();
            assert_eq!(read.as_slice(), b"secret");
        }
    }

    #[test]
    fn a_file_of_roots_may_show_the_mask_of_an_access_list() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root makes files of root");
            return;
        }
        let directory = given(0o550, 0o440);
        let read = read_credential(directory.path(), "kek").unwrap();
        assert_eq!(read.as_slice(), b"secret");
    }
}
