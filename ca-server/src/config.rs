//! The configuration file of a CA replica: one type and one file for each section.
//!
//! Text becomes types here and nowhere else: a `Config` that exists can be started from, save for
//! what only the host knows (ports, directories, keys). Unknown keys, impossible lifetimes and a
//! key-encryption key inside the data directory are refused before any port is bound.

mod attest;
mod bundle;
mod keys;
mod lifetimes;
mod limits;
mod listen;
mod recovery;
mod spool;
mod store;
mod upstream;

use std::path::Path;

use identity::{IdTemplate, Name, TrustDomain};
use runtime::{ConfigError, TelemetryOptions};
use serde::Deserialize;

pub use attest::{
    Algorithm, AttestConfig, ClaimPointer, ClaimRefused, ClaimTemplate, ClaimTemplateError,
    HostNaming, HostSelectors, JwtIssuerConfig, KeysUrl, KeysUrlError, NamePattern,
    NamePatternError, OneOf, SelectorTemplate, SelectorsError, TokenSelectors, X509PopConfig,
};
pub use bundle::{BundleConfig, RefreshHintError};
pub use keys::{
    AdminConfig, CredentialName, KekPlace, KeysConfig, KeysConfigError, PinPlace, Pkcs11Config,
    RootCurve, RootPlace, TokenKeyName, VariableName,
};
pub use lifetimes::{Lifetimes, LifetimesError};
pub use limits::Limits;
pub use listen::{AdvertiseConfig, ListenConfig, WebConfig};
pub use recovery::RecoveryConfig;
pub use spool::{SpoolConfig, SpoolConfigError};
pub use store::{PostgresServer, PostgresTls, StorePlace, StorePlaceError};
pub use upstream::{
    NextUpstreamDisk, NextUpstreamPkcs11, UpstreamConfig, UpstreamCountersign, UpstreamCsr,
    UpstreamDisk, UpstreamPkcs11,
};

/// Everything that a replica is told before it starts; see `deploy/examples/ca.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trust domain that this CA is the authority of; fixed when the store is created.
    pub trust_domain: TrustDomain,
    /// This replica's name in its own SPIFFE ID and in what agents see.
    #[serde(default = "default_replica")]
    pub replica: Name,
    /// How identities are named; fixed when the store is created.
    #[serde(default)]
    pub id_template: IdTemplate,
    pub store: StorePlace,
    /// Without it nothing is renewed while PostgreSQL is away.
    #[serde(default)]
    pub spool: Option<SpoolConfig>,
    pub keys: KeysConfig,
    /// Whose root the trust domain has; its own, if left out.
    #[serde(default)]
    pub upstream: Option<UpstreamConfig>,
    /// Without it, agents that were away while a root was removed must be joined again.
    #[serde(default)]
    pub recovery: Option<RecoveryConfig>,
    #[serde(default)]
    pub listen: ListenConfig,
    #[serde(default)]
    pub advertise: AdvertiseConfig,
    #[serde(default)]
    pub web: WebConfig,
    #[serde(default)]
    pub lifetimes: Lifetimes,
    #[serde(default)]
    pub bundle: BundleConfig,
    pub admin: AdminConfig,
    #[serde(default)]
    pub attest: AttestConfig,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: TelemetryOptions,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = runtime::config::load(path)?;
        config
            .check()
            .map_err(|broken| ConfigError::inconsistent(path, broken.key, broken.message))?;
        Ok(config)
    }

    /// A whole CA below `directory`, on loopback with ports that the host picks: for `countersign
    /// up` and for tests.
    pub fn for_directory(trust_domain: TrustDomain, directory: &Path) -> Self {
        Self {
            trust_domain,
            replica: default_replica(),
            id_template: IdTemplate::default(),
            store: StorePlace::Sqlite(directory.join("data").join("ca.sqlite")),
            spool: None,
            keys: KeysConfig::file(directory.join("keys").join("kek")),
            upstream: None,
            recovery: None,
            listen: ListenConfig::loopback(),
            advertise: AdvertiseConfig::default(),
            web: WebConfig::default(),
            lifetimes: Lifetimes::default(),
            bundle: BundleConfig::default(),
            admin: AdminConfig {
                credential_file: directory.join("admin.toml"),
            },
            attest: AttestConfig::default(),
            limits: Limits::default(),
            log: TelemetryOptions::default(),
        }
    }

    /// The rules that span fields; those of one field hold by its type.
    pub fn check(&self) -> Result<(), BrokenRule> {
        self.keys.check_apart_from(&self.store)?;
        if let Some(upstream) = &self.upstream {
            upstream.check(&self.keys)?;
        }
        if let Some(spool) = &self.spool {
            spool.check_store(&self.store)?;
        }
        self.attest.check()?;
        self.listen.check()?;
        self.listen.check_named(&self.advertise)?;
        self.web.check()
    }
}

/// Which key of a configuration contradicts another, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct BrokenRule {
    /// As in `keys.kek_file`.
    pub key: &'static str,
    pub message: String,
}

fn default_replica() -> Name {
    "ca-1".parse().expect("a literal DNS label")
}

#[cfg(test)]
mod tests;
