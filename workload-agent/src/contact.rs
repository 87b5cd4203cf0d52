//! How the agent stands with the CA, published as one value.

use identity::join_token::CaAddress;
use policy::Revision;
use tokio::sync::watch;

use crate::ca::CaChannel;
use crate::status::Problem;

/// A clock that is off by more than this is warned about.
const TOLERATED_OFFSET_MS: u64 = 5_000;

/// What the session last learnt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contact {
    /// Open, with the agent's live SVID.
    pub(crate) channel: Option<CaChannel>,
    pub(crate) address: Option<CaAddress>,
    /// The CA's clock minus this host's, in milliseconds.
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) problem: Option<Problem>,
    /// The revision that the cache holds on disk; none other is acknowledged.
    pub(crate) cached: Option<Revision>,
    /// The sequence of the bundle that the cache holds on disk.
    pub(crate) cached_bundle: Option<u64>,
}

impl Contact {
    /// Answers whether that is news.
    pub(crate) fn note_bundle(&mut self, sequence: Option<u64>) -> bool {
        let changed = self.cached_bundle != sequence;
        self.cached_bundle = sequence;
        changed
    }
}

/// Notes what a reply says of the CA's clock.
pub(crate) fn note_clock(contact: &watch::Sender<Contact>, ca_ms: i64, now: time::OffsetDateTime) {
    if ca_ms == 0 {
        return;
    }
    let own_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
    let offset = ca_ms.saturating_sub(own_ms);
    if offset.unsigned_abs() > TOLERATED_OFFSET_MS {
        tracing::warn!(
            offset_ms = offset,
            "this host's clock differs from the CA's"
        );
    }
    contact.send_modify(|contact| contact.clock_offset_ms = Some(offset));
}
