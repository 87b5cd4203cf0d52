//! The certificate authority of a mesh: decides who gets which identity, signs it, and remembers
//! that it did.

mod accept;
pub mod admin;
mod api;
mod app;
mod attest;
mod authority;
mod bearer;
mod clock_check;
pub mod config;
mod grpc;
mod horizon;
mod issue;
mod log;
mod metrics;
mod nesting;
mod peer;
mod pkcs11;
mod recovery;
pub mod registry;
mod revocation;
mod rotation;
mod sources;
mod spool;
mod status;
pub mod store;
mod watch;

pub use app::{
    BindError, Ca, StartError, WebFileError, install_upstream, request_upstream, reset_admin,
    rotate_seal,
};
pub use authority::{KekError, RootError, UpstreamError};
pub use clock_check::ClockOff;
pub use config::Config;
pub use issue::ServingError;
pub use nesting::{AboveError, BundleAboveError, CredentialError, NestingError};
pub use pkcs11::TokenError;
pub use recovery::RecoveryConfigError;
pub use spool::{NotShipped, SpoolError, SpoolOpenError};
pub use watch::{
    AttachedProxy, Bypassable, ConnectedAgent, Enforcement, Introduction, Presence, ProxyReport,
};
