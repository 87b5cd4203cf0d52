//! How a call travels: which rule of a Route it follows, which backend and endpoint it goes to,
//! how often and how soon it is tried again, and when it must wait or is refused.
//!
//! Invariant: everything here is a machine that knows no transport and reads no clock: time and
//! randomness are arguments, so each rule is deterministic under test. Limits that hold for the
//! whole process are atomics; what one worker decides by (balancer, breaker) is its own.

pub(crate) mod backends;
pub(crate) mod backoff;
pub(crate) mod balancer;
pub(crate) mod breaker;
pub(crate) mod bucket;
pub(crate) mod budget;
pub(crate) mod bulkhead;
pub(crate) mod callers;
pub(crate) mod chance;
pub(crate) mod changes;
pub(crate) mod checks;
pub(crate) mod connections;
pub(crate) mod fault;
pub(crate) mod health;
pub(crate) mod hedge;
pub(crate) mod load;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod retry;
pub(crate) mod settings;
pub(crate) mod shared;
