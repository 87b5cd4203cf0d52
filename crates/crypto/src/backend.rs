//! The backend of this build. Each file below offers the same few names; nothing else in the
//! workspace imports `aws_lc_rs` or `ring`.

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
#[cfg(feature = "aws-lc-rs")]
pub(crate) use self::aws_lc_rs::*;

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
mod ring;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
pub(crate) use self::ring::*;

/// The backend could not do what was asked. It never says why, on purpose.
#[derive(Debug)]
pub(crate) struct Refused;
