//! HTTP/2 (RFC 9113) for a proxy's data path: one connection, either side, without IO.
//!
//! Bytes go in, frames come out into one buffer, and handles on streams are woken. It belongs to
//! one thread. It opens no socket, keeps no clock and spawns nothing.
//!
//! It refuses what the standard does not oblige anybody to have: server push, priorities and
//! extended CONNECT.

pub mod hpack;
