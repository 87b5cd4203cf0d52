//! `[[attest.jwt]]`: an issuer whose tokens are believed, about whom, and under which name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crypto::jws::{JwsAlgorithm, UnknownAlgorithm};
use serde::Deserialize;

use super::BrokenRule;
use super::claims::{ClaimPointer, ClaimTemplate, OneOf};
use super::selectors::TokenSelectors;
use crate::attest::{JOIN_TOKEN, X509POP};

/// One issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtIssuerConfig {
    /// Stands in the IDs of its agents: `/countersign/agent/<attestor>/…`. Each issuer has its own.
    pub attestor: String,
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Where its keys are: a JWK Set by HTTPS …
    pub keys_url: Option<KeysUrl>,
    /// … or in a file.
    pub keys_file: Option<PathBuf>,
    /// PEM; who vouches for the host of `keys_url`. Absent: the authorities of this system.
    pub roots_file: Option<PathBuf>,
    /// Holds a bearer token that is shown when the keys are asked for.
    pub keys_token_file: Option<PathBuf>,
    /// By which `alg` its tokens may be signed.
    #[serde(default = "usual_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The agent's name, from claims.
    pub agent_name: ClaimTemplate,
    /// What must be so of whoever attests. An issuer speaks of many, so something must.
    pub require: BTreeMap<ClaimPointer, OneOf>,
    /// What its agents hold, by which entries of the registry may name them.
    #[serde(default)]
    pub selectors: TokenSelectors,
}

/// The address of a JWK Set: `https`, a host, no credentials in it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeysUrl(http::Uri);

/// Text that is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("keys are fetched from `https://host/path`, without a user or a password in it")]
pub struct KeysUrlError;

/// An `alg` that is verified with a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Algorithm(pub JwsAlgorithm);

impl JwtIssuerConfig {
    pub(super) fn check(&self) -> Result<(), BrokenRule> {
        let rules = [
            (
                "attest.jwt.attestor",
                is_attestor(&self.attestor),
                "must be a name of its own, of a-z, 0-9 and inner dashes",
            ),
            (
                "attest.jwt.audience",
                !self.issuer.is_empty() && !self.audience.is_empty(),
                "and issuer must not be empty",
            ),
            (
                "attest.jwt.keys_url",
                self.keys_url.is_some() != self.keys_file.is_some(),
                "or keys_file must say where the keys are, and only one of them",
            ),
            (
                "attest.jwt.roots_file",
                self.keys_url.is_some()
                    || (self.roots_file.is_none() && self.keys_token_file.is_none()),
                "and keys_token_file are of no use without keys_url",
            ),
            (
                "attest.jwt.algorithms",
                !self.algorithms.is_empty(),
                "must name at least one",
            ),
            (
                "attest.jwt.require",
                !self.require.is_empty(),
                "must name a claim: an issuer speaks of many who are no agents",
            ),
        ];
        let broken = rules.into_iter().find(|(_, holds, _)| !holds);
        broken.map_or(Ok(()), |(key, _, message)| {
            let message = message.to_owned();
            Err(BrokenRule { key, message })
        })
    }

    /// By which `alg` its tokens may be signed.
    pub(crate) fn algorithms(&self) -> Vec<JwsAlgorithm> {
        self.algorithms.iter().map(|one| one.0).collect()
    }
}

impl KeysUrl {
    pub(crate) fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        // An IPv6 address stands in brackets.
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or(443)
    }

    pub(crate) fn authority(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        let path = self.0.path_and_query();
        path.map_or("/", http::uri::PathAndQuery::as_str)
    }
}

impl FromStr for KeysUrl {
    type Err = KeysUrlError;

    fn from_str(text: &str) -> Result<Self, KeysUrlError> {
        let uri: http::Uri = text.parse().map_err(|_| KeysUrlError)?;
        let authority = uri.authority().ok_or(KeysUrlError)?;
        let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
        if uri.scheme() != Some(&http::uri::Scheme::HTTPS) || !plain {
            return Err(KeysUrlError);
        }
        Ok(Self(uri))
    }
}

impl std::fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for KeysUrl {
    type Error = KeysUrlError;

    fn try_from(text: String) -> Result<Self, KeysUrlError> {
        text.parse()
    }
}

impl TryFrom<String> for Algorithm {
    type Error = UnknownAlgorithm;

    fn try_from(text: String) -> Result<Self, UnknownAlgorithm> {
        text.parse().map(Self)
    }
}

fn usual_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm(JwsAlgorithm::Rs256),
        Algorithm(JwsAlgorithm::Es256),
    ]
}

fn is_attestor(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    let free = ![JOIN_TOKEN, X509POP].contains(&text);
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && edges && free
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "attestor = 'k8s'\nissuer = 'https://k8s.example'\naudience = 'countersign'\n\
                        keys_file = 'keys.json'\nagent_name = '{/sub}'\nrequire = {'/sub' = 'a'}\n";

    #[track_caller]
    fn broken(from: &str, to: &str, key: &str) {
        let text = GOOD.replacen(from, to, 1);
        let config: JwtIssuerConfig = toml::from_str(&text).unwrap();
        assert_eq!(config.check().unwrap_err().key, key, "{text}");
    }

    #[test]
    fn an_issuer_that_contradicts_itself_is_refused() {
        broken("'k8s'", "'join-token'", "attest.jwt.attestor");
        broken("'k8s'", "'x509pop'", "attest.jwt.attestor");
        broken("'k8s'", "'K8S'", "attest.jwt.attestor");
        broken("'countersign'", "''", "attest.jwt.audience");
        broken("keys_file = 'keys.json'\n", "", "attest.jwt.keys_url");
        broken(
            "'keys.json'",
            "'keys.json'\nroots_file = 'r'",
            "attest.jwt.roots_file",
        );
        broken(
            "'keys.json'",
            "'keys.json'\nalgorithms = []",
            "attest.jwt.algorithms",
        );
        broken("{'/sub' = 'a'}", "{}", "attest.jwt.require");
    }

    #[test]
    fn algorithms_without_a_public_key_are_refused() {
        for name in ["none", "HS256"] {
            let text = format!("algorithms = ['{name}']\n{GOOD}");
            assert!(toml::from_str::<JwtIssuerConfig>(&text).is_err(), "{name}");
        }
    }

    #[test]
    fn keys_are_fetched_by_https_only() {
        for url in [
            "http://k8s.example/keys",
            "k8s.example",
            "https://a:b@k8s.example/",
            "file:///k",
        ] {
            assert_eq!(url.parse::<KeysUrl>(), Err(KeysUrlError), "{url}");
        }
        let url: KeysUrl = "https://[::1]:8443/openid/v1/jwks?a=b".parse().unwrap();
        let parts = (url.host(), url.port(), url.authority(), url.path());
        assert_eq!(parts, ("::1", 8443, "[::1]:8443", "/openid/v1/jwks?a=b"));
    }

    #[test]
    fn a_whole_issuer_is_accepted() {
        let config: JwtIssuerConfig = toml::from_str(GOOD).unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(
            config.algorithms(),
            [JwsAlgorithm::Rs256, JwsAlgorithm::Es256]
        );
    }
}
