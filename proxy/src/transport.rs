//! Everything that carries calls: listeners, HTTP, TLS between proxies, the application.
//!
//! The rest of the proxy knows nothing of what is used here.

mod accepting;
mod admission;
pub(crate) mod application;
mod attempt;
pub(crate) mod body;
pub(crate) mod call;
mod carry;
mod connect;
mod deadline;
mod dial;
mod exchange;
pub(crate) mod external;
mod external_http;
pub(crate) mod failure;
mod fault;
pub(crate) mod fronts;
mod gateway;
pub(crate) mod hop;
mod http1_client;
mod http1_connection;
mod http1_server;
mod http2_client;
mod http2_driver;
mod http2_group;
mod http2_head;
mod http2_server;
mod http_server;
mod io;
mod keep_alive;
pub(crate) mod listeners;
pub(crate) mod mesh;
pub(crate) mod mesh_http;
mod mirror;
pub(crate) mod outbound;
mod outbound_http;
mod own_limits;
pub(crate) mod peers;
mod pipe;
mod port_guard;
mod prefix;
mod prober;
mod reach;
mod refusal;
mod relay;
pub(crate) mod routing;
mod silence;
pub(crate) mod steering;
mod transparent;
mod tunnel;

/// One stream may fill a quarter of the connection's window, so that no stream starves others.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// How long a connection that has ended may take to send what it said last.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);
