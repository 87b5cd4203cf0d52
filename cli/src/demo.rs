//! The three programs of the demonstration, as `countersign demo-program` runs them.
//!
//! They are ordinary programs: they know HTTP and `http_proxy`, and nothing of the mesh. What they
//! see of their own calls they report on standard output, one JSON object a line.

mod caller;
mod orders;
mod report;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

pub(crate) use report::Report;

/// One of the demonstration's programs (used by `up --demo`)
#[derive(Debug, Args)]
pub(crate) struct DemoProgram {
    #[arg(value_enum)]
    program: Which,
    /// Where the caller finds the mesh
    #[arg(long, env = "http_proxy", value_parser = proxy_address)]
    http_proxy: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Orders,
    Checkout,
    Intruder,
}

impl DemoProgram {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match (self.program, self.http_proxy) {
            (Which::Orders, _) => orders::serve().await,
            (Which::Checkout | Which::Intruder, Some(proxy)) => {
                caller::call_repeatedly(proxy).await
            }
            (Which::Checkout | Which::Intruder, None) => anyhow::bail!("http_proxy is not set"),
        }
    }
}

fn proxy_address(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .strip_prefix("http://")
        .map(|rest| rest.trim_end_matches('/'));
    address
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| "write http://address:port".to_owned())
}
