//! The clock that validity is judged by: the caller's, handed to rustls, so that verification
//! uses one source and tests can shift it. A time before 1970 counts as no time at all, and
//! nothing is verified without one.

use std::fmt;
use std::sync::Arc;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

#[derive(Clone)]
pub(crate) struct WallClock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl WallClock {
    pub(crate) fn new(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = self.now() - OffsetDateTime::UNIX_EPOCH;
        now.try_into().ok().map(UnixTime::since_unix_epoch)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// The wall-clock form of what rustls passes to a verifier. Times beyond year 9999 are the last
/// one, at which nothing is valid.
pub(crate) fn wall_time(time: UnixTime) -> OffsetDateTime {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
}

pub(crate) fn unix_time(time: OffsetDateTime) -> UnixTime {
    let since_epoch = time - OffsetDateTime::UNIX_EPOCH;
    UnixTime::since_unix_epoch(since_epoch.try_into().unwrap_or_default())
}
