//! The harness: a real CA, real agents and real proxies in this process, on ports of their own.
//!
//! Faked are time ([`runtime::Clock::adjustable`]) and faults, nothing else.

pub mod application;
pub mod caller;
pub mod collector;
pub mod database;
pub mod echo;
pub mod fake_clock;
pub mod faulty_line;
pub mod fleet;
pub mod frames;
pub mod holder;
pub mod host;
pub mod invariants;
pub mod mesh;
pub mod nameserver;
pub mod operator;
pub mod other_user;
pub mod outside;
pub mod processes;
pub mod raw;
pub mod replicas;
pub mod shop;
pub mod stranger;
pub mod thief;
pub mod waiting;
pub mod workload;
