//! The sockets of a replica, bound in one go, and the names by which others reach them.

use std::net::SocketAddr;

use identity::join_token::CaAddress;
use runtime::AdminSocket;
use runtime::admin::AdminError;
use runtime::metrics::{MetricsError, bind_metrics};
use tokio::net::TcpListener;

use crate::config::{AdvertiseConfig, Config};

/// Bound, not yet served.
pub(super) struct Sockets {
    pub(super) web: TcpListener,
    pub(super) web_address: SocketAddr,
    pub(super) agents: TcpListener,
    pub(super) agents_address: SocketAddr,
    pub(super) metrics: Option<TcpListener>,
    pub(super) metrics_address: Option<SocketAddr>,
    pub(super) admin: Option<AdminSocket>,
}

/// Which socket is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address} for {purpose}")]
    Listen {
        address: SocketAddr,
        purpose: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot serve metrics")]
    Metrics(#[from] MetricsError),
    #[error("cannot serve the administration socket")]
    Admin(#[from] AdminError),
}

/// How others reach this mesh's CA.
pub(super) struct Advertised {
    /// `https://host:port`
    pub(super) web: String,
    pub(super) agents: Vec<CaAddress>,
}

impl Sockets {
    pub(super) async fn bind(config: &Config) -> Result<Self, BindError> {
        let listen = &config.listen;
        let (web, web_address) = listener(listen.web, "the web").await?;
        let (agents, agents_address) = listener(listen.agents, "agents").await?;
        let metrics = match listen.metrics {
            Some(address) => Some(bind_metrics(address).await?),
            None => None,
        };
        let admin = listen
            .admin_socket
            .as_ref()
            .map(AdminSocket::bind)
            .transpose()?;
        Ok(Self {
            web,
            web_address,
            agents,
            agents_address,
            metrics_address: metrics.as_ref().and_then(|bound| bound.local_addr().ok()),
            metrics,
            admin,
        })
    }
}

impl Advertised {
    pub(super) fn of(advertise: &AdvertiseConfig, sockets: &Sockets) -> Self {
        let agents = if advertise.agents.is_empty() {
            let bound = sockets.agents_address.to_string();
            vec![bound.parse().expect("a socket's address is one of the CA")]
        } else {
            advertise.agents.clone()
        };
        Self {
            web: web(advertise, sockets.web_address),
            agents,
        }
    }

    /// For a credential that is made while the CA does not run.
    pub(super) fn configured_web(config: &Config) -> String {
        web(&config.advertise, config.listen.web)
    }
}

fn web(advertise: &AdvertiseConfig, address: SocketAddr) -> String {
    let named = advertise.web.clone();
    named.unwrap_or_else(|| format!("https://{address}"))
}

async fn listener(
    address: SocketAddr,
    purpose: &'static str,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let refused = |source| BindError::Listen {
        address,
        purpose,
        source,
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}
