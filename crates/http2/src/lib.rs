//! HTTP/2 (RFC 9113) for a proxy's data path: one connection, either side, without IO.
//!
//! Bytes go in, frames come out into one buffer, and whoever reads or writes a stream is woken. It
//! belongs to one thread. It opens no socket, keeps no clock and spawns nothing.
//!
//! Bodies are not queued on their way out: a [`Writer`] takes what there is room for, so what is
//! in memory is bounded by the windows and by one buffer of output.
//!
//! It refuses what the standard does not oblige anybody to have: server push and extended
//! CONNECT; priorities are read and ignored.

mod connection;
mod core;
mod error;
mod flood;
mod frame;
mod handles;
mod head;
pub mod hpack;
mod output;
mod settings;
mod stream;
mod streams;
mod window;

pub use connection::{Accepted, Connection};
pub use error::{Error, Reason};
pub use handles::{Reader, Requests, Writer};
pub use head::{Outgoing, Response};
pub use settings::Config;
