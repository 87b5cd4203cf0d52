//! `[attest]`: by what else than join tokens an agent may prove itself, and how it is named then.
//!
//! Nothing is accepted that is not configured, and a rule that would be ignored is refused.

mod claims;
mod jwt;
mod selectors;

use std::path::PathBuf;
use std::str::FromStr;

use identity::x509::KeyPurpose;
use serde::Deserialize;

use super::BrokenRule;

pub use claims::{
    ClaimPointer, ClaimRefused, ClaimTemplate, ClaimTemplateError, OneOf, SelectorTemplate,
};
pub use jwt::{Algorithm, JwtIssuerConfig, KeysUrl, KeysUrlError};
pub use selectors::{HostSelectors, SelectorsError, TokenSelectors};

/// Attestors beside join tokens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttestConfig {
    /// Absent: certificates of hosts prove nothing.
    pub x509pop: Option<X509PopConfig>,
    /// Issuers whose tokens are believed.
    pub jwt: Vec<JwtIssuerConfig>,
}

/// Hosts that prove possession of a certificate from elsewhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X509PopConfig {
    /// PEM; each certificate of it is believed about hosts. Read at the start.
    pub roots_file: PathBuf,
    /// What becomes the last segment of the agent's ID.
    #[serde(default)]
    pub agent_name: HostNaming,
    /// Which names are taken; needed for names, and of no use for fingerprints.
    #[serde(default)]
    pub allowed_names: Vec<NamePattern>,
    /// What the certificate must list. Absent: one that limits its use must leave `client-auth`.
    pub extended_key_usage: Option<KeyPurpose>,
    /// What each of its agents holds, in fixed texts.
    #[serde(default)]
    pub selectors: HostSelectors,
}

/// How the agent of a host is named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostNaming {
    /// SHA-256 of the certificate, in hex: another one for each certificate.
    #[default]
    Fingerprint,
    /// The one common name of its subject.
    CommonName,
    /// Its one DNS name, in lower case.
    DnsName,
}

/// A name, in which one `*` may stand for one or more characters other than a dot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct NamePattern {
    before: String,
    /// `None`: `before` is the whole name.
    after: Option<String>,
}

/// Text that is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamePatternError {
    #[error("a pattern of names is not empty")]
    Empty,
    #[error("a pattern of names has one `*` at most")]
    Stars,
}

impl AttestConfig {
    pub(super) fn check(&self) -> Result<(), BrokenRule> {
        self.x509pop.as_ref().map_or(Ok(()), X509PopConfig::check)?;
        for (index, issuer) in self.jwt.iter().enumerate() {
            issuer.check()?;
            let twice = |other: &JwtIssuerConfig| other.attestor == issuer.attestor;
            if self.jwt[..index].iter().any(twice) {
                return Err(BrokenRule {
                    key: "attest.jwt.attestor",
                    message: format!("{} is the name of two issuers", issuer.attestor),
                });
            }
        }
        Ok(())
    }
}

impl X509PopConfig {
    fn check(&self) -> Result<(), BrokenRule> {
        let by_name = self.agent_name != HostNaming::Fingerprint;
        let message = match (by_name, self.allowed_names.is_empty()) {
            (true, true) => "must list the names that agents may have",
            (false, false) => "is of no use where agents are named by fingerprint",
            _ => return Ok(()),
        };
        Err(BrokenRule {
            key: "attest.x509pop.allowed_names",
            message: message.to_owned(),
        })
    }
}

impl NamePattern {
    /// Whether `name` is one of those that are meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some(after) = &self.after else {
            return name == self.before;
        };
        name.strip_prefix(&self.before)
            .and_then(|rest| rest.strip_suffix(after.as_str()))
            .is_some_and(|star| !star.is_empty() && !star.contains('.'))
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        if text.is_empty() {
            return Err(NamePatternError::Empty);
        }
        let Some((before, after)) = text.split_once('*') else {
            return Ok(Self {
                before: text.to_owned(),
                after: None,
            });
        };
        if after.contains('*') {
            return Err(NamePatternError::Stars);
        }
        Ok(Self {
            before: before.to_owned(),
            after: Some(after.to_owned()),
        })
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NamePatternError;

    fn try_from(text: String) -> Result<Self, NamePatternError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x509pop(rest: &str) -> Result<(), BrokenRule> {
        let text = format!("[x509pop]\nroots_file = 'hosts.pem'\n{rest}");
        toml::from_str::<AttestConfig>(&text).unwrap().check()
    }

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn names_without_a_list_of_those_that_are_taken_are_refused() {
        for naming in ["common-name", "dns-name"] {
            let broken = x509pop(&format!("agent_name = '{naming}'\n")).unwrap_err();
            assert_eq!(broken.key, "attest.x509pop.allowed_names");
        }
    }

    #[test]
    fn a_list_of_names_beside_fingerprints_is_refused() {
        let broken = x509pop("allowed_names = ['web-*']\n").unwrap_err();
        assert_eq!(broken.key, "attest.x509pop.allowed_names");
    }

    #[test]
    fn a_roots_file_is_enough() {
        assert_eq!(x509pop(""), Ok(()));
    }

    #[test]
    fn a_star_stands_for_one_label_and_not_for_nothing() {
        let hosts = pattern("*.hosts.example");
        assert!(!hosts.matches(".hosts.example"));
        assert!(!hosts.matches("a.b.hosts.example"));
        assert!(!hosts.matches("web-7.hosts.example.evil"));
        assert!(hosts.matches("web-7.hosts.example"));
    }

    #[test]
    fn the_parts_around_a_star_do_not_overlap() {
        assert!(!pattern("ab*bc").matches("abc"));
        assert!(pattern("ab*bc").matches("ab-bc"));
    }

    #[test]
    fn a_name_without_a_star_means_itself() {
        assert!(!pattern("web-7").matches("web-70"));
        assert!(pattern("web-7").matches("web-7"));
    }

    #[test]
    fn two_stars_are_refused() {
        assert_eq!("*.*".parse::<NamePattern>(), Err(NamePatternError::Stars));
        assert_eq!("".parse::<NamePattern>(), Err(NamePatternError::Empty));
    }
}
