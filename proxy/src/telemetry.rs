//! What is told of each call: counts always, a record if somebody listens.

mod access_log;
mod exposition;
mod histogram;
mod journal;
mod levels;
mod metrics;
mod series;

pub(crate) use access_log::write_access_log;
pub(crate) use journal::{Journal, Outcome};
pub(crate) use series::Series;
