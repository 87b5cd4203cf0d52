//! The harness: a real CA, real agents and real proxies in this process, on ports of their own.
//!
//! Faked are time ([`runtime::Clock::adjustable`]) and faults, nothing else.

pub mod application;
pub mod caller;
pub mod waiting;
