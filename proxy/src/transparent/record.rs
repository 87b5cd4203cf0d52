//! What `countersign redirect` installed, as it wrote it down: the proxy may not look at the
//! kernel's rules itself.
//!
//! Invariant: a record is believed only if nobody but root can have written it, if it is of this
//! network namespace, and while the kernel tracks connections here, which it does for rules alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::original::{NotRedirected, original_destination};

/// The rules in force in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectRecord {
    pub backend: String,
    pub proxy_uid: u32,
    /// Where connections from outside are led.
    pub inbound_port: Option<u16>,
    pub inbound: Option<RedirectedPorts>,
}

/// To which ports connections from outside are redirected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedirectedPorts {
    Only(BTreeSet<u16>),
    AllBut(BTreeSet<u16>),
}

impl RedirectRecord {
    /// Of root alone.
    pub const DIRECTORY: &str = "/run/countersign-redirect";

    /// Where the record of the calling thread's network namespace is.
    ///
    /// # Errors
    /// If the kernel does not tell which namespace that is.
    pub fn path() -> io::Result<PathBuf> {
        let namespace = fs::metadata("/proc/thread-self/ns/net")?;
        Ok(Path::new(Self::DIRECTORY).join(format!("{}.json", namespace.ino())))
    }

    /// The record of this namespace, if there is one.
    ///
    /// # Errors
    /// If it is not one, or others than root could have written it.
    pub fn read() -> io::Result<Option<Self>> {
        let path = Self::path()?;
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => require_roots(&found?)?,
        }
        require_roots(&fs::metadata(Self::DIRECTORY)?)?;
        Ok(Some(serde_json::from_slice(&fs::read(path)?)?))
    }

    /// Whether a connection from outside to `port` is led to the proxy's `listener`.
    fn leads(&self, port: u16, listener: u16) -> bool {
        let covered = match &self.inbound {
            Some(RedirectedPorts::Only(ports)) => ports.contains(&port),
            Some(RedirectedPorts::AllBut(ports)) => !ports.contains(&port),
            None => false,
        };
        covered && self.inbound_port == Some(listener)
    }
}

/// Which application ports can be reached from outside through the proxy only.
#[derive(Clone, Debug, Default)]
pub(crate) struct InboundRedirect {
    rules: Option<(RedirectRecord, u16)>,
}

impl InboundRedirect {
    /// Looks now; `listener` is our inbound redirect port, if we have one. In doubt there is none.
    pub(crate) fn look(listener: Option<u16>) -> Self {
        let record = RedirectRecord::read().ok().flatten();
        let rules = record
            .zip(listener)
            .filter(|(record, _)| record.proxy_uid == geteuid().as_raw())
            .filter(|_| tracks_connections().unwrap_or(false));
        Self { rules }
    }

    pub(crate) fn covers(&self, port: u16) -> bool {
        let rules = self.rules.as_ref();
        rules.is_some_and(|(record, listener)| record.leads(port, *listener))
    }

    #[cfg(test)]
    pub(crate) fn of(record: RedirectRecord, listener: u16) -> Self {
        Self {
            rules: Some((record, listener)),
        }
    }
}

fn require_roots(metadata: &fs::Metadata) -> io::Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    match metadata.uid() == 0 && metadata.mode() & OTHERS_WRITE == 0 {
        true => Ok(()),
        false => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Whether the kernel remembers where a connection of this namespace was going.
fn tracks_connections() -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let _client = TcpStream::connect(address)?;
    let (server, _) = listener.accept()?;
    let found = original_destination(&server, address);
    Ok(matches!(found, Err(NotRedirected::Direct(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(inbound: Option<RedirectedPorts>) -> RedirectRecord {
        RedirectRecord {
            backend: "nftables".to_owned(),
            proxy_uid: 1337,
            inbound_port: Some(15006),
            inbound,
        }
    }

    #[test]
    fn ports_that_no_rule_leads_to_our_listener_are_not_covered() {
        let only = record(Some(RedirectedPorts::Only([8080].into())));
        assert!(!only.leads(8081, 15006) && !only.leads(8080, 15007));
        assert!(!record(None).leads(8080, 15006));
        let all = record(Some(RedirectedPorts::AllBut([31006].into())));
        assert!(!all.leads(31006, 15006));
        assert!(only.leads(8080, 15006) && all.leads(8080, 15006));
    }

    #[test]
    fn a_record_that_others_could_have_written_is_not_believed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(file.path(), permissions).unwrap();
        let refused = require_roots(&fs::metadata(file.path()).unwrap());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn without_a_listener_or_a_record_nothing_is_covered() {
        assert!(!InboundRedirect::look(None).covers(8080));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = record(Some(RedirectedPorts::AllBut([31006].into())));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<RedirectRecord>(&text).unwrap(),
            record
        );
        assert!(serde_json::from_str::<RedirectRecord>("{\"backend\":\"x\"}").is_err());
    }
}
