//! A real CA on real sockets, and agents that speak to it as agents do.

mod agent;
mod attestation;
mod bans;
mod harness;
mod hosts;
mod issuance;
mod issuers;
mod keys_server;
mod listening;
mod lists;
mod nesting;
mod replica;
mod rotation;
mod selectors;
mod upstream;
mod watching;
