//! Logs on standard error, with a level that can change while the process runs.
//!
//! Refuses filter texts that do not parse; a process has one subscriber and keeps it.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// The `[log]` section of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryOptions {
    /// How a line is written: `text` (default) or `json`.
    pub format: LogFormat,
    /// What is written: a level, or per target, as in `info,proxy=debug`.
    pub level: LogFilter,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or levels by target.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    text: String,
    targets: Targets,
}

impl Default for LogFilter {
    fn default() -> Self {
        let level = tracing_subscriber::filter::LevelFilter::INFO;
        Self {
            text: "info".to_owned(),
            targets: Targets::new().with_default(level),
        }
    }
}

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    fn from_str(text: &str) -> Result<Self, InvalidLogFilter> {
        let known = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            level
                .trim()
                .parse::<tracing_subscriber::filter::LevelFilter>()
                .is_ok()
        };
        match text.parse() {
            Ok(targets) if text.split(',').all(known) => Ok(Self {
                text: text.to_owned(),
                targets,
            }),
            _ => Err(InvalidLogFilter(text.to_owned())),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

/// A text that is no log filter.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no log level; use error, warn, info, debug, trace or off, also per target as in \"info,proxy=debug\""
)]
pub struct InvalidLogFilter(String);

/// Starts logging to standard error for this process.
pub fn init(options: &TelemetryOptions) -> Result<LogLevelHandle, TelemetryError> {
    let (filter, handle) = reload::Layer::new(options.level.targets.clone());
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let started = match options.format {
        LogFormat::Text => registry.with(lines.with_ansi(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|_| TelemetryError::AlreadyStarted)?;
    Ok(LogLevelHandle {
        handle,
        current: Arc::new(ArcSwap::from_pointee(options.level.clone())),
    })
}

/// Changes what is logged while the process runs. Cheap to clone.
#[derive(Clone)]
pub struct LogLevelHandle {
    handle: reload::Handle<Targets, tracing_subscriber::Registry>,
    current: Arc<ArcSwap<LogFilter>>,
}

impl LogLevelHandle {
    /// Logs by `filter` from now on.
    pub fn set(&self, filter: LogFilter) -> Result<(), TelemetryError> {
        self.handle
            .reload(filter.targets.clone())
            .map_err(|_| TelemetryError::Gone)?;
        self.current.store(Arc::new(filter));
        Ok(())
    }

    /// What is logged now.
    pub fn current(&self) -> LogFilter {
        LogFilter::clone(&self.current.load())
    }
}

impl fmt::Debug for LogLevelHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevelHandle")
            .field(&self.current())
            .finish()
    }
}

/// Why logging cannot be started or changed.
#[derive(Debug, Error)]
pub enum TelemetryError {
    #[error("logging was already started in this process")]
    AlreadyStarted,
    #[error("the log level can no longer be changed in this process")]
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_level_is_refused() {
        let error = "inof".parse::<LogFilter>().unwrap_err();
        assert_eq!(error, InvalidLogFilter("inof".to_owned()));
    }

    #[test]
    fn misspelled_level_of_one_target_is_refused() {
        assert!("info,proxy=debgu".parse::<LogFilter>().is_err());
    }

    #[test]
    fn level_can_be_changed_once_logging_runs() {
        let handle = init(&TelemetryOptions::default()).unwrap();
        let wanted: LogFilter = "warn,proxy=trace".parse().unwrap();
        handle.set(wanted.clone()).unwrap();
        assert_eq!(handle.current(), wanted);
        assert!(matches!(
            init(&TelemetryOptions::default()),
            Err(TelemetryError::AlreadyStarted)
        ));
    }
}
