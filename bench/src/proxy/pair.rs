//! Two proxies, one that calls for `shop/checkout` and one that answers for `shop/orders`: ours or
//! a peer's, measured through the same doors.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::machine::{pin, process_cpu, rss_mib};

/// Where load enters, and the host that it names.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Doors {
    /// HTTP/1.1 from the application.
    pub(crate) http1: Door,
    /// HTTP/2 without TLS from the application; none where it cannot be passed on.
    pub(crate) http2: Option<Door>,
    /// A TCP stream from the application.
    pub(crate) tcp: SocketAddr,
    /// Mutual TLS from other proxies, then HTTP.
    pub(crate) mesh: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) doors: Doors,
    pub(crate) outbound: u32,
    pub(crate) inbound: u32,
}

impl Pair {
    pub(crate) fn pin(&self, cpus: &[usize]) -> Result<()> {
        pin(self.outbound, cpus)?;
        pin(self.inbound, cpus)
    }

    /// User and system time of both.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(self.outbound_cpu()? + self.inbound_cpu()?)
    }

    fn outbound_cpu(&self) -> Result<Duration> {
        process_cpu(self.outbound).with_context(|| format!("{} has ended", self.name))
    }

    pub(crate) fn inbound_cpu(&self) -> Result<Duration> {
        process_cpu(self.inbound).with_context(|| format!("{} has ended", self.name))
    }

    pub(crate) fn rss_mib(&self) -> f64 {
        rss_mib(self.outbound) + rss_mib(self.inbound)
    }

    pub(crate) fn heavier_mib(&self) -> f64 {
        rss_mib(self.outbound).max(rss_mib(self.inbound))
    }
}
