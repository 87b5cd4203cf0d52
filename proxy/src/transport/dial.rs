//! Dialing: a TCP connection to whoever may be called, within a limit.

use std::fmt::Display;
use std::time::Duration;

use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

use super::failure::Failure;
use crate::failure::Reason;

/// # Errors
/// If nobody there accepts the connection in time.
pub(super) async fn dial(
    address: impl ToSocketAddrs + Display,
    limit: Duration,
) -> Result<TcpStream, Failure> {
    match timeout(limit, TcpStream::connect(&address)).await {
        Ok(Ok(stream)) => {
            // Latency only: without it small writes wait for acknowledgements.
            drop(stream.set_nodelay(true));
            Ok(stream)
        }
        Ok(Err(error)) => Err(Failure::connect(&address.to_string(), &error)),
        Err(_) => {
            let detail = format!("connect to {address}: too slow");
            Err(Failure::new(Reason::ConnectTimeout, detail))
        }
    }
}
