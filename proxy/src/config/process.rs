//! How the process itself is run: its end, its successor, and what it may do to its host.

use std::path::PathBuf;
use std::time::Duration;

use runtime::Span;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// What is in flight after this is cut.
    pub deadline: Span,
}

/// How a new process takes over from the running one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Takeover {
    /// Where the running proxy hands its sockets over; beside the admin socket unless given.
    pub socket: Option<PathBuf>,
    /// A successor that has no credentials and policy by then gives up.
    pub ready_within: Span,
}

/// What the process gives up before it serves. Applied by `countersign-proxy` alone: a proxy
/// inside another program leaves that program as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    pub landlock: Demand,
    pub seccomp: Demand,
    /// Files and folders to be read besides those that this configuration names.
    pub read: Vec<PathBuf>,
}

/// Whether to start where the kernel lacks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Demand {
    Required,
    #[default]
    Preferred,
    Off,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline: Span::from(Duration::from_secs(30)),
        }
    }
}

impl Default for Takeover {
    fn default() -> Self {
        Self {
            socket: None,
            ready_within: Span::from(Duration::from_secs(60)),
        }
    }
}
