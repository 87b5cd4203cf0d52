//! How refusals are put into a gRPC status: the code that the caller's library knows, our stable
//! code in `countersign-reason`, and, where retrying helps, after how long.

use std::time::Duration;

use time::OffsetDateTime;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Our stable code of the refusal.
pub(crate) const REASON: &str = "countersign-reason";
/// Where retrying helps, unless it is here (agent.proto, `Issuance`).
const RETRY: &str = "countersign-retry";
/// gRPC's own hint (gRFC A6), in milliseconds.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// A refusal that stands until something changes.
pub(crate) fn refused(code: Code, reason: &'static str, message: &str) -> Status {
    Status::with_metadata(code, message, reason_metadata(reason))
}

/// A refusal that passes by itself.
pub(crate) fn unavailable(reason: &'static str, message: &str, after: Duration) -> Status {
    let mut metadata = reason_metadata(reason);
    let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
    metadata.insert(PUSHBACK, MetadataValue::from(millis.max(1)));
    Status::with_metadata(Code::Unavailable, message, metadata)
}

/// A refusal whose cause is this replica's: another may do what was asked.
pub(crate) fn elsewhere(reason: &'static str, message: &str, after: Duration) -> Status {
    let mut status = unavailable(reason, message, after);
    let elsewhere = MetadataValue::from_static("elsewhere");
    status.metadata_mut().insert(RETRY, elsewhere);
    status
}

fn reason_metadata(reason: &'static str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason));
    metadata
}

/// Milliseconds since the epoch, as every clock in the protocol is written.
pub(crate) fn unix_millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos() / 1_000_000;
    i64::try_from(millis).expect("a year below 10000 in milliseconds fits in 64 bits")
}
