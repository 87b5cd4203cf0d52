//! What every process of the mesh needs to run: the clock, backoff, supervision, shutdown,
//! configuration, files, telemetry and a local administration socket.
//!
//! Invariant: this crate knows nothing of identities, policy or TLS. It alone reads the wall
//! clock, and every task that it starts has an owner.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod exit;
pub mod files;
pub mod health;
mod listening;
pub mod metrics;
mod open_files;
pub mod shutdown;
pub mod supervisor;
pub mod telemetry;

pub use admin::{AdminSocket, AdminSource};
pub use backoff::{Backoff, InvalidBackoff};
pub use clock::{Clock, ClockControl, ClockSteps, StepWatch};
pub use config::{ConfigError, Span};
pub use credentials::read_credential;
pub use files::{FileError, LockError, LockFile};
pub use health::serve_health;
pub use listening::Listening;
pub use metrics::serve_metrics;
pub use open_files::{open_files_for, raise_open_files};
pub use shutdown::{Shutdown, ShutdownTrigger};
pub use supervisor::{Supervisor, TaskFailed, TaskFault};
pub use telemetry::{LogFilter, LogFormat, LogLevelHandle, TelemetryOptions};
