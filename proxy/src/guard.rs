//! What keeps other users of this host away from the workload's identity and from its port.

pub(crate) mod bypass;
pub(crate) mod caller;
