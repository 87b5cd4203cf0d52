//! Unix sockets for other processes.
//!
//! Invariant: a socket appears at its path with its final mode and group; a live one, or a file of
//! another kind, is left alone and refused.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, chown};
use tokio::net::UnixListener;

/// A bound socket; its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    pub(crate) file: SocketFile,
}

/// Removes the socket's file at the end.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

/// Why a socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("cannot bind the socket {}", path.display())]
    Bind { path: PathBuf, source: io::Error },
    #[error("{} is served by another process", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and is no socket", .0.display())]
    NotASocket(PathBuf),
    #[error("there is no group `{0}` on this host")]
    NoSuchGroup(String),
}

impl Socket {
    pub(crate) fn bind(path: &Path, mode: u32, group: Option<&str>) -> Result<Self, SocketError> {
        let group = group.map(group_id).transpose()?;
        refuse_occupied(path)?;
        bind_beside(path, mode, group).map_err(|source| SocketError::Bind {
            path: path.to_owned(),
            source,
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file left behind is replaced by the next start.
        drop(fs::remove_file(&self.0));
    }
}

/// Renaming a bound socket keeps it bound, and shows it only when it is ready.
fn bind_beside(path: &Path, mode: u32, group: Option<Gid>) -> io::Result<Socket> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = SocketFile(temporary.into());
    let listener = UnixListener::bind(&temporary.0)?;
    if let Some(group) = group {
        chown(&temporary.0, None, Some(group))?;
    }
    fs::set_permissions(&temporary.0, Permissions::from_mode(mode))?;
    fs::rename(&temporary.0, path)?;
    Ok(Socket {
        listener,
        file: SocketFile(path.to_owned()),
    })
}

fn group_id(name: &str) -> Result<Gid, SocketError> {
    let group = Group::from_name(name).ok().flatten();
    group
        .map(|group| group.gid)
        .ok_or_else(|| SocketError::NoSuchGroup(name.to_owned()))
}

fn refuse_occupied(path: &Path) -> Result<(), SocketError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn live_socket_is_not_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let _first = Socket::bind(&path, 0o660, None).unwrap();
        let refused = Socket::bind(&path, 0o660, None);
        assert!(matches!(refused, Err(SocketError::InUse(_))));
    }

    #[tokio::test]
    async fn ordinary_file_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notes");
        fs::write(&path, "keep me").unwrap();
        let refused = Socket::bind(&path, 0o660, None);
        assert!(matches!(refused, Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "keep me");
    }

    #[tokio::test]
    async fn unknown_group_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let refused = Socket::bind(&path, 0o660, Some("no-such-group-here"));
        assert!(matches!(refused, Err(SocketError::NoSuchGroup(_))));
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_and_has_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = Socket::bind(&path, 0o660, None).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        drop(socket);
        assert!(!path.exists());
    }
}
