//! `[spool]`: where renewals are recorded while PostgreSQL is away.

use std::path::PathBuf;
use std::time::Duration;

use runtime::config::Span;
use serde::Deserialize;

use super::{BrokenRule, StorePlace};

const MIB: u64 = 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const LARGEST: u32 = 4096;

/// Checked settings of the spool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct SpoolConfig {
    /// Of this replica only, on a disk of its host; made at the start, 0600.
    pub file: PathBuf,
    /// Renewals go on for so long without the store.
    pub max_age: Duration,
    size_mib: u32,
}

/// Which rule `[spool]` breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolConfigError {
    #[error("max_age = {} is not between 1s and 24h", Span::from(*.0))]
    Age(Duration),
    #[error("size_mib = {0} is not between 1 and {LARGEST}")]
    Size(u32),
}

impl SpoolConfig {
    /// In bytes; all of it is taken at the start.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.size_mib) * MIB
    }

    pub(super) fn check_store(&self, store: &StorePlace) -> Result<(), BrokenRule> {
        match store {
            StorePlace::Postgres(_) => Ok(()),
            StorePlace::Sqlite(_) => Err(BrokenRule {
                key: "spool.file",
                message: "a store in a file is on this host, and has no spool".to_owned(),
            }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    file: PathBuf,
    #[serde(default = "an_hour")]
    max_age: Span,
    #[serde(default = "enough")]
    size_mib: u32,
}

impl TryFrom<Raw> for SpoolConfig {
    type Error = SpoolConfigError;

    fn try_from(raw: Raw) -> Result<Self, SpoolConfigError> {
        let max_age: Duration = raw.max_age.into();
        if !(Duration::from_secs(1)..=LONGEST).contains(&max_age) {
            return Err(SpoolConfigError::Age(max_age));
        }
        if !(1..=LARGEST).contains(&raw.size_mib) {
            return Err(SpoolConfigError::Size(raw.size_mib));
        }
        Ok(Self {
            file: raw.file,
            max_age,
            size_mib: raw.size_mib,
        })
    }
}

fn an_hour() -> Span {
    Duration::from_secs(60 * 60).into()
}

/// For some 170,000 records.
fn enough() -> u32 {
    64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = toml::from_str::<SpoolConfig>(text).unwrap_err();
        error.message().to_owned()
    }

    #[test]
    fn an_age_or_a_size_out_of_range_is_refused() {
        let age = SpoolConfigError::Age(Duration::ZERO).to_string();
        assert_eq!(refused("file = \"a\"\nmax_age = \"0s\""), age);
        let size = SpoolConfigError::Size(0).to_string();
        assert_eq!(refused("file = \"a\"\nsize_mib = 0"), size);
    }

    #[test]
    fn a_spool_beside_a_store_in_a_file_is_refused() {
        let spool: SpoolConfig = toml::from_str("file = \"a\"").unwrap();
        let store = StorePlace::Sqlite("ca.sqlite".into());
        assert_eq!(spool.check_store(&store).unwrap_err().key, "spool.file");
        assert_eq!(spool.max_age, Duration::from_secs(3600));
        assert_eq!(spool.size(), 64 * MIB);
    }
}
