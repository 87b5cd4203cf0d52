//! What is told of each call: counts always, a record if somebody listens.

mod access_log;
mod exposition;
mod histogram;
mod journal;
mod levels;
mod metrics;
mod otlp;
mod otlp_tls;
mod series;
mod span;
mod tap;
mod tracer;

pub(crate) use access_log::write_access_log;
pub(crate) use journal::{Journal, Outcome};
pub(crate) use levels::{Gauge, Level};
pub(crate) use metrics::OpenConnection;
pub(crate) use series::Series;
pub(crate) use tap::routes as tap_routes;
pub(crate) use tracer::Trace;
