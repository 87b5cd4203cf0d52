//! The administrator's credential: where it is found, and what makes it usable.
//!
//! Refuses a file that others can read, that belongs to someone else, or that has expired; the
//! secret in it shows in no error and no debug output.

mod client;
mod pins;
mod problem;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use crypto::digest::Sha256;
use identity::TrustDomain;
use runtime::{Clock, ConfigError, FileError};
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

pub use client::{Client, ClientError};
use pins::Pins;

/// Which credential to use; the command line, the environment, then the usual place.
#[derive(Debug, Clone, Args)]
pub struct AdminArguments {
    /// The administrator's credential [default: countersign/admin.toml in $XDG_STATE_HOME or ~/.local/state]
    #[arg(
        long,
        env = "COUNTERSIGN_ADMIN",
        hide_env_values = true,
        value_name = "FILE"
    )]
    admin: Option<PathBuf>,
    #[command(flatten)]
    home: HomeArguments,
}

impl AdminArguments {
    /// A client that has read the credential and has not yet connected.
    pub fn client(&self) -> Result<Client, AdminFileError> {
        let clock = Clock::system();
        Ok(Client::new(
            AdminFile::load(&self.path()?, clock.now())?,
            clock,
        ))
    }

    /// Where state of this person's is kept, if the environment says.
    pub fn state_directory(&self) -> Option<PathBuf> {
        self.home.state_directory()
    }

    fn path(&self) -> Result<PathBuf, AdminFileError> {
        match &self.admin {
            Some(path) => Ok(path.clone()),
            None => Ok(self
                .home
                .state_directory()
                .ok_or(AdminFileError::NoHome)?
                .join("admin.toml")),
        }
    }
}

/// Where this person's state is kept, from the environment (XDG base directory specification).
#[derive(Debug, Clone, Args)]
pub struct HomeArguments {
    #[arg(long, env = "XDG_STATE_HOME", hide = true)]
    xdg_state_home: Option<OsString>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<OsString>,
}

impl HomeArguments {
    /// `$XDG_STATE_HOME/countersign`, by default `~/.local/state/countersign`.
    pub fn state_directory(&self) -> Option<PathBuf> {
        // "All paths set in these environment variables must be absolute. If an implementation
        // encounters a relative path [...] it should consider the path invalid and ignore it."
        let absolute = |path: &&OsStr| Path::new(path).is_absolute();
        let state = self
            .xdg_state_home
            .as_deref()
            .filter(absolute)
            .map(PathBuf::from);
        let home = self.home.as_deref().filter(absolute).map(PathBuf::from);
        state
            .or_else(|| Some(home?.join(".local/state")))
            .map(|base| base.join("countersign"))
    }
}

/// A credential that may be used now: read from a private file, complete and not expired.
#[derive(Clone)]
pub struct AdminFile {
    trust_domain: TrustDomain,
    urls: Vec<CaUrl>,
    roots: Pins,
    secret: Zeroizing<String>,
}

impl AdminFile {
    /// Reads and judges the file.
    pub fn load(path: &Path, now: OffsetDateTime) -> Result<Self, AdminFileError> {
        let bytes = runtime::files::read_private(path).map_err(|error| {
            if error.is_not_found() {
                AdminFileError::Missing {
                    path: path.to_owned(),
                }
            } else {
                AdminFileError::Unusable(error)
            }
        })?;
        let invalid = |key, message: &dyn fmt::Display| {
            AdminFileError::Invalid(ConfigError::inconsistent(path, key, message))
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| invalid("encoding", &error))?;
        let content: Content =
            runtime::config::parse(path, text).map_err(AdminFileError::Invalid)?;
        let expires = OffsetDateTime::parse(&content.expires, &Rfc3339)
            .map_err(|error| invalid("expires", &error))?;
        if expires <= now {
            return Err(AdminFileError::Expired {
                path: path.to_owned(),
                expires,
            });
        }
        let urls: Vec<CaUrl> = parse_all(&content.urls).map_err(|error| invalid("urls", &error))?;
        let roots: Vec<Sha256> =
            parse_all(&content.root_sha256).map_err(|error| invalid("root_sha256", &error))?;
        if urls.is_empty() || roots.is_empty() {
            return Err(invalid(
                "urls, root_sha256",
                &"at least one of each is needed",
            ));
        }
        Ok(Self {
            trust_domain: content.trust_domain,
            urls,
            roots: Pins::new(path, roots),
            secret: content.secret.0,
        })
    }
}

impl fmt::Debug for AdminFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminFile")
            .field("urls", &self.urls)
            .finish_non_exhaustive()
    }
}

/// Why there is no credential to work with.
#[derive(Debug, Error)]
pub enum AdminFileError {
    #[error(
        "no administrator's credential at {}; start a mesh with `countersign up`, or name the file with --admin", path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "no administrator's credential: neither HOME nor XDG_STATE_HOME is set; use --admin FILE"
    )]
    NoHome,
    #[error("the administrator's credential is not used")]
    Unusable(#[source] FileError),
    #[error("the administrator's credential is not understood")]
    Invalid(#[source] ConfigError),
    #[error(
        "the administrator's credential {} expired at {expires}; make a new one with `countersign-ca admin reset` on the CA's host", path.display()
    )]
    Expired {
        path: PathBuf,
        expires: OffsetDateTime,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    trust_domain: TrustDomain,
    urls: Vec<String>,
    root_sha256: Vec<String>,
    secret: Secret,
    expires: String,
}

/// Erased when dropped, as every copy of the secret is.
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

fn parse_all<T: std::str::FromStr>(texts: &[String]) -> Result<Vec<T>, T::Err> {
    texts.iter().map(|text| text.parse()).collect()
}

/// The address of a CA's web listener: `https`, a host and a port, nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaUrl {
    authority: http::uri::Authority,
}

impl CaUrl {
    /// `host:port`, to connect to.
    fn address(&self) -> String {
        format!(
            "{}:{}",
            self.authority.host(),
            self.authority.port_u16().unwrap_or(443)
        )
    }
}

impl std::str::FromStr for CaUrl {
    type Err = InvalidCaUrl;

    fn from_str(text: &str) -> Result<Self, InvalidCaUrl> {
        let invalid = || InvalidCaUrl(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| invalid())?;
        let parts = uri.into_parts();
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority)) if scheme == http::uri::Scheme::HTTPS && bare => {
                let named_user = authority.as_str().contains('@');
                if named_user {
                    Err(invalid())
                } else {
                    Ok(Self { authority })
                }
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for CaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// A text that is no CA address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no address of a CA; write https://host:port")]
pub struct InvalidCaUrl(String);

#[cfg(test)]
mod tests;
