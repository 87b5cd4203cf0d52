//! What keeps other users of this host away from the workload's identity and from its port, and
//! one peer from taking all places.

pub(crate) mod bypass;
pub(crate) mod caller;
pub(crate) mod sources;
