//! What is installed in this namespace, written down for the proxy, who may not look at the rules
//! itself, and for a later `remove`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proxy::{RedirectRecord, RedirectedPorts};

use super::kernel::Backend;
use super::plan::{Plan, Ports};

#[derive(Debug, thiserror::Error)]
#[error("the rules are in force, but {} cannot be written, so the proxy will not know", path.display())]
pub(super) struct RecordError {
    path: PathBuf,
    source: io::Error,
}

pub(super) fn write(plan: &Plan, backend: Backend) -> Result<(), RecordError> {
    let failed = |path: PathBuf| |source| RecordError { path, source };
    let path = RedirectRecord::path().map_err(failed(RedirectRecord::DIRECTORY.into()))?;
    let record = RedirectRecord {
        backend: backend.as_str().to_owned(),
        proxy_uid: plan.proxy_uid(),
        inbound_port: plan.inbound().map(|it| it.to),
        inbound: plan.inbound().map(|it| match &it.ports {
            Ports::Only(ports) => RedirectedPorts::Only(ports.clone()),
            Ports::AllBut(ports) => RedirectedPorts::AllBut(ports.clone()),
        }),
    };
    put(&path, &record).map_err(failed(path.clone()))
}

/// # Errors
/// If there is one that cannot be removed.
pub(super) fn remove() -> io::Result<()> {
    match fs::remove_file(RedirectRecord::path()?) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the last installation used; none if there is no record.
pub(super) fn backend() -> Option<Backend> {
    let record = RedirectRecord::read().ok()??;
    [Backend::Nft, Backend::Iptables]
        .into_iter()
        .find(|it| it.as_str() == record.backend)
}

fn put(path: &std::path::Path, record: &RedirectRecord) -> io::Result<()> {
    fs::create_dir_all(RedirectRecord::DIRECTORY)?;
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(record)?)?;
    fs::set_permissions(&new, Permissions::from_mode(0o644))?;
    fs::rename(new, path)
}
