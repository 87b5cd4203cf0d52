//! The credential by which the instance above knows this one, as `countersign downstream create`
//! writes it. Read each time that it is needed: whoever replaces the file is obeyed.
//!
//! Refuses a file that others can read, and one of another trust domain.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crypto::digest::Sha256;
use http::uri::{Authority, Scheme};
use identity::TrustDomain;
use runtime::{ConfigError, FileError};
use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::authority::PublishedRoots;
use crate::bearer::{BearerSecret, Nesting};

pub(super) struct Credential {
    pub(super) urls: Vec<InstanceUrl>,
    roots: Vec<Sha256>,
    created_at: OffsetDateTime,
    pub(super) secret: BearerSecret<Nesting>,
}

/// `https`, a host and a port, nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceUrl(Authority);

/// Why there is no credential to work with.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the credential of [upstream.countersign] cannot be read")]
    File(#[from] FileError),
    #[error("the credential of [upstream.countersign] is not understood")]
    Content(#[source] ConfigError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    trust_domain: TrustDomain,
    urls: Vec<String>,
    root_sha256: Vec<String>,
    created_at: String,
    #[serde(deserialize_with = "erased")]
    secret: Zeroizing<String>,
}

/// Every copy of the secret is erased when it is dropped.
fn erased<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl Credential {
    pub(super) fn read(path: &Path, ours: &TrustDomain) -> Result<Self, CredentialError> {
        let text = Zeroizing::new(runtime::files::read_private(path)?);
        let invalid = |key: &'static str, message: &dyn fmt::Display| {
            CredentialError::Content(ConfigError::inconsistent(path, key, message))
        };
        let text = std::str::from_utf8(&text).map_err(|error| invalid("encoding", &error))?;
        let content: Content =
            runtime::config::parse(path, text).map_err(CredentialError::Content)?;
        if content.trust_domain != *ours {
            let other = format!("is {}, and this is {ours}", content.trust_domain);
            return Err(invalid("trust_domain", &other));
        }
        let created_at = OffsetDateTime::parse(&content.created_at, &Rfc3339);
        let credential = Self {
            created_at: created_at.map_err(|error| invalid("created_at", &error))?,
            urls: all(&content.urls).map_err(|error| invalid("urls", &error))?,
            roots: all(&content.root_sha256).map_err(|error| invalid("root_sha256", &error))?,
            secret: content
                .secret
                .parse()
                .map_err(|error| invalid("secret", &error))?,
        };
        match credential.urls.is_empty() || credential.roots.is_empty() {
            true => Err(invalid(
                "urls, root_sha256",
                &"at least one of each is needed",
            )),
            false => Ok(credential),
        }
    }
}

impl Credential {
    /// Digests of the roots that the instance above may prove itself by: those that are trusted
    /// here, and those of the credential unless a root has ceased to be trusted since it was made.
    /// So a new credential leads back who has slept through a rotation, and an old one nobody to a
    /// root that was burnt.
    pub(super) fn pins(&self, here: &PublishedRoots) -> Vec<Sha256> {
        let mut pins: Vec<_> = here.trusted().map(|(_, root)| root.digest()).collect();
        if here.last_removal().is_none_or(|at| at < self.created_at) {
            pins.extend(&self.roots);
        }
        pins
    }
}

fn all<T: FromStr>(texts: &[String]) -> Result<Vec<T>, T::Err> {
    texts.iter().map(|text| text.parse()).collect()
}

impl InstanceUrl {
    /// `host:port`, to connect to.
    pub(super) fn address(&self) -> String {
        let port = self.0.port_u16().unwrap_or(443);
        format!("{}:{port}", self.0.host())
    }

    pub(super) fn authority(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for InstanceUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl(text.to_owned());
        let parts = text
            .parse::<http::Uri>()
            .map_err(|_| invalid())?
            .into_parts();
        let bare = parts.path_and_query.is_none_or(|path| path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if scheme == Scheme::HTTPS && bare && !authority.as_str().contains('@') =>
            {
                Ok(Self(authority))
            }
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for InstanceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

/// Not where an instance is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address of a CA; write https://host:port")]
pub(crate) struct InvalidUrl(String);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "trust_domain = \"corp.example\"\nurls = [\"https://ca:8443\"]\n\
                        root_sha256 = [\"";

    fn read(text: &str) -> Result<Credential, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("upstream.toml");
        runtime::files::write_private(&path, text.as_bytes()).unwrap();
        Credential::read(&path, &"corp.example".parse().unwrap())
    }

    fn good() -> String {
        let (root, secret) = (Sha256::of(b"root"), "A".repeat(43));
        format!(
            "{GOOD}{root}\"]\ncreated_at = \"2026-01-01T00:00:00Z\"\nsecret = \"csd1_{secret}\"\n"
        )
    }

    #[track_caller]
    fn breaks(from: &str, to: &str, key: &str) {
        let Err(error) = read(&good().replace(from, to)) else {
            panic!("{to} is taken");
        };
        let why = runtime::exit::one_line(&error);
        assert!(why.contains(key), "{why}");
        assert!(!why.contains("AAAA"), "{why}");
    }

    #[test]
    fn what_is_no_credential_of_this_mesh_is_refused_by_the_key_that_is_wrong() {
        breaks("corp.example", "other.example", "trust_domain");
        breaks("https://ca:8443", "http://ca:8443", "urls");
        breaks("https://ca:8443", "https://ca:8443/v1", "urls");
        breaks("https://ca:8443", "https://me@ca:8443", "urls");
        breaks("\"https://ca:8443\"", "", "urls");
        breaks("2026-01-01T", "yesterday, at ", "created_at");
        breaks("csd1_", "csa1_", "secret");
        breaks("secret", "token", "token");
    }

    #[test]
    fn where_the_instance_is_and_by_what_it_is_known_is_read() {
        let credential = read(&good()).unwrap();
        assert_eq!(credential.urls[0].address(), "ca:8443");
        let nothing = PublishedRoots::none(&"corp.example".parse().unwrap());
        assert_eq!(credential.pins(&nothing), [Sha256::of(b"root")]);
    }
}
