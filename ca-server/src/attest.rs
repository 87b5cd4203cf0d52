//! Who an agent is before it holds an SVID: evidence is decoded, judged, and becomes `Attested`,
//! which nothing else makes and from which `issue` authorizes the agent's first SVID.
//!
//! An agent proves itself by a join token, or where that is configured by the certificate of its
//! host or by a token of an issuer; the attestor stands in its ID, so one never passes for the other.
//!
//! Refuses: a key whose possession is not proven on this very connection, a token that is unknown,
//! expired, bound to another key or used from elsewhere, and an expired SVID of which a newer one
//! has been seen.

mod attestors;
mod evidence;
mod host;
mod issuer_keys;
mod issuers;
mod judge;
mod limits;
mod possession;
mod refusal;
mod service;

pub(crate) use attestors::{Attestors, AttestorsError, JOIN_TOKEN, X509POP};
pub(crate) use judge::Attested;
pub(crate) use limits::AttestLimits;
pub(crate) use possession::{ChannelBinding, EXPORTER_LABEL};
pub(crate) use service::{AttestCalls, AttestDesk};
