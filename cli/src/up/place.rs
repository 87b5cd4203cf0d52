//! Where `up` keeps a mesh: the CA's files, its ports, and the demonstration's directories.
//!
//! Invariant: the ports of the first start are those of every later one, so that tokens, caches
//! and the credential outlive a restart. Refuses a directory that others can enter.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ca_server::{Ca, Config, StartError};
use identity::TrustDomain;
use runtime::Clock;
use serde::{Deserialize, Serialize};

/// A private directory that holds one mesh.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
}

/// The ports that the CA keeps, in `ports.toml`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    web: u16,
    agents: u16,
}

impl Place {
    /// Creates the directory if need be.
    pub(super) fn prepare(directory: &Path) -> anyhow::Result<Self> {
        runtime::files::private_directory(directory)
            .context("the mesh's files need a directory of their own")?;
        let directory = directory
            .canonicalize()
            .context("cannot resolve the state directory")?;
        Ok(Self { directory })
    }

    /// Where the demonstration keeps its agents.
    pub(super) fn demo(&self) -> PathBuf {
        self.directory.join("demo")
    }

    /// Starts the CA on its kept ports, and keeps those it got.
    pub(super) async fn start_ca(
        &self,
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> anyhow::Result<Ca> {
        let kept = self.read_ports()?;
        let mut config = Config::for_directory(trust_domain.clone(), &self.directory);
        config.listen.web = local(kept.web);
        config.listen.agents = local(kept.agents);
        let ca = Ca::start(config, clock.clone())
            .await
            .map_err(|error| self.explain(error))?;
        let ports = Ports {
            web: ca.web_address().port(),
            agents: ca.agents_address().port(),
        };
        if ports != kept {
            runtime::files::write_private(self.ports_file(), toml::to_string(&ports)?.as_bytes())?;
        }
        Ok(ca)
    }

    fn explain(&self, error: StartError) -> anyhow::Error {
        let error = anyhow::Error::new(error);
        let is_in_use = |cause: &io::Error| cause.kind() == io::ErrorKind::AddrInUse;
        if error
            .chain()
            .filter_map(|cause| cause.downcast_ref())
            .any(is_in_use)
        {
            let file = self.ports_file();
            return error.context(format!(
                "cannot start the CA on the ports that {} keeps; end what uses them, or delete that file",
                file.display(),
            ));
        }
        error.context("cannot start the CA")
    }

    fn read_ports(&self) -> anyhow::Result<Ports> {
        let file = self.ports_file();
        if !file.exists() {
            return Ok(Ports::default());
        }
        Ok(runtime::config::load(&file)?)
    }

    fn ports_file(&self) -> PathBuf {
        self.directory.join("ports.toml")
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_ports_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(&directory.path().join("mesh")).unwrap();
        let ports = Ports {
            web: 4001,
            agents: 4002,
        };
        runtime::files::write_private(
            place.ports_file(),
            toml::to_string(&ports).unwrap().as_bytes(),
        )
        .unwrap();
        assert_eq!(place.read_ports().unwrap(), ports);
    }

    #[test]
    fn broken_ports_file_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(&directory.path().join("mesh")).unwrap();
        std::fs::write(place.ports_file(), "web = 1\n").unwrap();
        assert!(
            place
                .read_ports()
                .unwrap_err()
                .to_string()
                .contains("ports.toml")
        );
    }

    #[test]
    fn place_that_others_can_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        assert!(Place::prepare(directory.path()).is_err());
    }
}
