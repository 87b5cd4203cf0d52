//! Files that hold secrets or state: written whole or not at all, readable by their owner alone.
//!
//! Refuses to read a secret that others could have read, and to share a locked state directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

/// Writes a file that only its owner can read (0600), by way of a temporary file in the same
/// directory: a reader, or a crash, sees the old content or the new.
pub fn write_private(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), FileError> {
    let path = path.as_ref();
    let temporary = temporary_beside(path);
    let written = write_and_rename(&temporary, path, bytes);
    if written.is_err() {
        // The write's own error is what the caller needs; a left-over is found by its name.
        drop(fs::remove_file(&temporary));
    }
    written.map_err(|source| FileError::io("write", path, source))
}

/// As [`write_private`], but leaves a file that is there already as it is: of two processes that
/// make it at once, one does. Answers whether this one did.
pub fn create_private(path: impl AsRef<Path>, bytes: &[u8]) -> Result<bool, FileError> {
    let path = path.as_ref();
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes).and_then(|()| fs::hard_link(&temporary, path));
    // A left-over is found by its name.
    drop(fs::remove_file(&temporary));
    match written {
        Ok(()) => File::open(directory_of(path))
            .and_then(|directory| directory.sync_all())
            .map(|()| true)
            .map_err(|source| FileError::io("write", path, source)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(FileError::io("write", path, source)),
    }
}

/// Reads a file that belongs to this process's user (or to root) and that no one else can read.
pub fn read_private(path: impl AsRef<Path>) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let path = path.as_ref();
    let mut file = File::open(path).map_err(|source| FileError::io("read", path, source))?;
    let metadata = file
        .metadata()
        .map_err(|source| FileError::io("read", path, source))?;
    require_private(path, &metadata)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)
        .map_err(|source| FileError::io("read", path, source))?;
    Ok(bytes)
}

/// Creates the directory (0700, with its parents) unless it exists; an existing one must belong to
/// this process's user and be closed to others.
pub fn private_directory(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FileError::io("create the directory", path, source))?;
    let metadata = fs::metadata(path).map_err(|source| FileError::io("open", path, source))?;
    require_private(path, &metadata)
}

/// Holds an exclusive lock until it is dropped; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct LockFile {
    _lock: Flock<File>,
}

impl LockFile {
    /// Takes the lock, creating the file (0600) if need be; never waits.
    pub fn acquire(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let path = path.as_ref();
        let io_error = |source| LockError::File(FileError::io("lock", path, source));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io_error)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: holder(file),
                });
            }
            Err((_, errno)) => return Err(io_error(errno.into())),
        };
        record_holder(&mut lock).map_err(io_error)?;
        Ok(Self { _lock: lock })
    }
}

/// Why a private file cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot {attempted} {}", path.display())]
    Io {
        attempted: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} is open to others (mode {mode:03o}); use another, or close it with: chmod go= {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} belongs to uid {owner}, not to this process's uid {expected}", path.display())]
    WrongOwner {
        path: PathBuf,
        owner: u32,
        expected: u32,
    },
}

impl FileError {
    pub(crate) fn io(attempted: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            attempted,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Why a lock cannot be had.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("{} is in use by process {holder}", path.display())]
    Held { path: PathBuf, holder: String },
    #[error(transparent)]
    File(#[from] FileError),
}

fn require_private(path: &Path, metadata: &fs::Metadata) -> Result<(), FileError> {
    let expected = geteuid().as_raw();
    if metadata.uid() != expected && metadata.uid() != 0 {
        let path = path.to_owned();
        return Err(FileError::WrongOwner {
            path,
            owner: metadata.uid(),
            expected,
        });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn write_and_rename(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_new(temporary, bytes)?;
    fs::rename(temporary, path)?;
    File::open(directory_of(path))?.sync_all()
}

fn temporary_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    directory_of(path).join(format!(".{name}.{}.{unique}.tmp", std::process::id()))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn record_holder(lock: &mut Flock<File>) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(**lock, "{}", std::process::id())
}

fn holder(file: File) -> String {
    let mut text = String::new();
    match file.take(20).read_to_string(&mut text) {
        Ok(1..) => text,
        _ => "(unknown)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.toml");
        write_private(&path, b"secret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path).unwrap_err();
        assert!(matches!(error, FileError::Exposed { mode: 0o640, .. }));
    }

    #[test]
    fn directory_that_others_can_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let error = private_directory(directory.path()).unwrap_err();
        assert!(matches!(error, FileError::Exposed { mode: 0o755, .. }));
    }

    #[test]
    fn failed_write_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("occupied");
        fs::create_dir(&target).unwrap();
        let error = write_private(&target, b"new").unwrap_err();
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert!(matches!(
            error,
            FileError::Io {
                attempted: "write",
                ..
            }
        ));
        assert_eq!(names, 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kek");
        assert!(create_private(&path, b"first").unwrap());
        assert!(!create_private(&path, b"second").unwrap());
        assert_eq!(read_private(&path).unwrap().as_slice(), b"first");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn second_lock_is_refused_and_names_the_holder() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _held = LockFile::acquire(&path).unwrap();
        let error = LockFile::acquire(&path).unwrap_err();
        let expected = std::process::id().to_string();
        assert!(matches!(error, LockError::Held { holder, .. } if holder == expected));
    }

    #[test]
    fn lock_can_be_taken_again_after_it_was_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        drop(LockFile::acquire(&path).unwrap());
        assert!(LockFile::acquire(&path).is_ok());
    }

    #[test]
    fn written_file_is_private_and_replaces_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write_private(&path, b"old").unwrap();
        write_private(&path, b"new").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (read_private(&path).unwrap().as_slice(), mode),
            (b"new".as_slice(), 0o600)
        );
    }

    #[test]
    fn created_directory_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        private_directory(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
}
