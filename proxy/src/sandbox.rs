//! What `countersign-proxy` gives up before it serves, so that who subverts it gains little:
//! files (Landlock), and system calls that a proxy never makes (seccomp).
//!
//! Invariant: it is applied by the thread that starts all others, before it starts them, and to
//! that process alone; a proxy inside another program leaves the program as it is. Where the
//! configuration says `required` and the kernel cannot, nothing starts.

use serde::Serialize;

use crate::config::{Config, Demand};

mod files;
mod system_calls;

/// What is in force, for the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SandboxStatus {
    pub landlock: String,
    pub seccomp: String,
}

/// Why the process does not start as the configuration demands.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("sandbox.landlock is required, and this kernel has none or too old a one")]
    NoLandlock,
    #[error("cannot restrict files")]
    Landlock(#[from] landlock::RulesetError),
    #[error("cannot restrict files to {path}")]
    Path {
        path: String,
        source: landlock::PathFdError,
    },
    #[error("sandbox.seccomp is required, and there is no filter for this processor")]
    NoSeccomp,
    #[error("cannot restrict system calls")]
    Seccomp(#[source] seccompiler::Error),
    #[error("cannot make the filter of system calls")]
    Filter(#[from] seccompiler::BackendError),
}

/// Restricts this thread and all that it starts, for good.
///
/// # Errors
/// If something that is required cannot be had, or a path that is to be read cannot be
/// opened.
pub fn apply(config: &Config) -> Result<SandboxStatus, SandboxError> {
    // The filter comes last: making the rules takes calls that it could refuse.
    let landlock = match config.sandbox.landlock {
        Demand::Off => "off".to_owned(),
        demand => match files::restrict(config) {
            Ok(Some(abi)) => format!("enforced, ABI {abi}"),
            Ok(None) if demand == Demand::Required => return Err(SandboxError::NoLandlock),
            Ok(None) => "not available".to_owned(),
            Err(error) => return Err(error),
        },
    };
    let seccomp = match config.sandbox.seccomp {
        Demand::Off => "off".to_owned(),
        demand => match system_calls::restrict() {
            Ok(()) => "enforced".to_owned(),
            Err(error) if demand == Demand::Required => return Err(error),
            Err(error) => {
                let error = runtime::exit::one_line(&error);
                tracing::warn!(error, "seccomp is not available");
                "not available".to_owned()
            }
        },
    };
    Ok(SandboxStatus { landlock, seccomp })
}

#[cfg(test)]
mod tests;
