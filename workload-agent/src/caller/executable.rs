//! Which program a process runs: the path, and the digest of the file that is mapped.
//!
//! Invariant: the file that is hashed is the one the kernel opens for `/proc/<pid>/exe`, never
//! whatever lies at its path now. Digests are remembered by the file's identity and change time,
//! which its owner cannot set back.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crypto::digest::Sha256;

use super::process::Process;

/// Enough for every distinct program on a host; more are hashed again.
const REMEMBERED: usize = 256;

/// What a process runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Executable {
    pub(crate) path: PathBuf,
    /// Only where it was asked for.
    pub(crate) sha256: Option<Sha256>,
}

/// Digests of executables that were hashed before. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digests(Arc<Mutex<HashMap<FileIdentity, Sha256>>>);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Executable {
    /// Reads files: call it where blocking is allowed.
    pub(crate) fn of(process: &Process, digests: Option<&Digests>) -> io::Result<Self> {
        process.read(|pid| {
            let link = format!("/proc/{pid}/exe");
            let sha256 = digests
                .map(|digests| File::open(&link).and_then(|file| digests.of(file)))
                .transpose()?;
            let path = fs::read_link(&link)?;
            Ok(Self { path, sha256 })
        })
    }
}

impl Digests {
    fn of(&self, file: File) -> io::Result<Sha256> {
        let identity = FileIdentity::of(&file.metadata()?);
        if let Some(known) = self.lock().get(&identity) {
            return Ok(*known);
        }
        let digest = Sha256::of_reader(file)?;
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(identity, digest);
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FileIdentity, Sha256>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn own_executable_is_found_and_hashed() {
        let own = Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
        let found = Executable::of(&own, Some(&Digests::default())).unwrap();
        let path = std::env::current_exe().unwrap();
        let digest = Sha256::of(&fs::read(&path).unwrap());
        assert_eq!(
            found,
            Executable {
                path,
                sha256: Some(digest)
            }
        );
    }

    #[test]
    fn changed_file_is_hashed_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let digests = Digests::default();
        fs::write(&path, "one").unwrap();
        let before = digests.of(File::open(&path).unwrap()).unwrap();
        fs::write(&path, "another").unwrap();
        let after = digests.of(File::open(&path).unwrap()).unwrap();
        assert_eq!(
            (before, after),
            (Sha256::of(b"one"), Sha256::of(b"another"))
        );
    }
}
