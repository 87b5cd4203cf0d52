//! Everything that speaks to sockets: listeners, HTTP, TLS between proxies, the application.
//!
//! The rest of the proxy knows nothing of what is used here.

pub(crate) mod application;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod failure;
pub(crate) mod http_server;
pub(crate) mod listeners;
pub(crate) mod mesh;
pub(crate) mod mesh_http;
pub(crate) mod outbound;
pub(crate) mod outbound_http;
pub(crate) mod peers;
pub(crate) mod prefix;
pub(crate) mod reach;
pub(crate) mod refusal;
pub(crate) mod relay;
pub(crate) mod routing;
pub(crate) mod tasks;
