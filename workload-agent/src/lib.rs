//! The agent: proves where it runs, and keeps each local workload and proxy holding live
//! credentials and current configuration.
//!
//! Invariant: an identity is handed only to the process that the registry's selectors describe,
//! and never after it has expired. Keys are made here and never leave the host.

pub mod config;

pub use config::Config;
