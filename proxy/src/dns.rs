//! DNS for the names of the mesh, for programs that need no proxy setting.
//!
//! Invariant: what is answered for a name of the mesh comes from the configuration alone. A name
//! that does not exist is denied only when the CA said so; as long as nobody knows, the answer is
//! a failure that resolvers do not keep. Other names are refused, or handed on unread to the
//! resolvers that the configuration lists.

mod claims;
mod forward;
pub(crate) mod message;
mod names;
mod server;
mod zone;

#[doc(hidden)]
pub use claims::read_as_all;
pub(crate) use forward::{Forwarder, over_tcp, over_udp, system_resolvers};
pub use forward::{NoResolvers, Resolver};
pub(crate) use names::Names;
pub(crate) use server::{DnsSockets, Server};
