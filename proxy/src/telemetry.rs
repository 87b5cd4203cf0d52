//! What is told of each call: a line at its end, and counts.

mod access_log;
mod metrics;

pub(crate) use access_log::write_access_log;
pub(crate) use metrics::Journal;
