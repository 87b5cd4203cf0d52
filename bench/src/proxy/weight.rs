//! Resident memory: of the pairs idle and with 256 calling connections, and of our heavier proxy
//! with 256 on either side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mtls::{ClientTlsConfig, Expected};
use runtime::Clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::identities::Identities;
use super::pair::Pair;
use crate::figure::Figure;
use crate::load::http1;

const CONNECTIONS: usize = 256;
const CALLING: Duration = Duration::from_secs(2);

/// Open mutual TLS connections to one inbound proxy, as `shop/checkout`, each with one call behind
/// it.
#[derive(Debug)]
pub(super) struct Connections {
    config: ClientTlsConfig,
    address: SocketAddr,
    url: String,
    senders: Vec<Sender>,
    tasks: JoinSet<hyper::Result<()>>,
}

type Sender = SendRequest<Empty<Bytes>>;

pub(super) async fn figures(pairs: &[&Pair], identities: &Identities) -> Result<Vec<Figure>> {
    let Some((ours, peers)) = pairs.split_first() else {
        return Ok(Vec::new());
    };
    let heavier_idle = ours.heavier_mib();
    let mut idle = Figure::at_most("proxy.pair_rss_idle_mib", ours.rss_mib(), "MiB", 20.0);
    for peer in peers {
        idle = idle.beside(peer.name, peer.rss_mib());
    }
    let (ours_at_256, heavier_out) = calling(ours).await?;
    let mut many = Figure::at_most("proxy.pair_rss_256_mib", ours_at_256, "MiB", 30.0);
    for peer in peers {
        many = many.beside(peer.name, calling(peer).await?.0);
    }
    let mut connections = Connections::to(ours, identities)?;
    connections.open(CONNECTIONS).await?;
    let heavier = heavier_out.max(ours.heavier_mib());
    drop(connections);
    Ok(vec![
        idle,
        many,
        Figure::at_most("proxy.rss_idle_mib", heavier_idle, "MiB", 12.0),
        Figure::at_most("proxy.rss_256_mib", heavier, "MiB", 30.0),
    ])
}

/// Of the pair, and of its heavier proxy, while 256 connections call.
async fn calling(pair: &Pair) -> Result<(f64, f64)> {
    let door = &pair.doors.http1;
    let request = http1::Request::get(&door.authority);
    let callers = http1::Callers::connect(door.address, CONNECTIONS, &request).await?;
    let mut task = JoinSet::new();
    task.spawn(callers.closed(CALLING));
    sleep(CALLING / 2).await;
    let weight = (pair.rss_mib(), pair.heavier_mib());
    while let Some(ended) = task.join_next().await {
        ended??;
    }
    Ok(weight)
}

impl Connections {
    /// None at first.
    pub(super) fn to(pair: &Pair, identities: &Identities) -> Result<Self> {
        let clock = Clock::system();
        let (publisher, credentials) = mtls::channel(move || clock.now());
        let bundles = identities.context.bundles().clone();
        publisher.publish(identities.checkout.clone(), bundles)?;
        let servers = [identities.orders.spiffe_id().clone()]
            .into_iter()
            .collect();
        let expected = Expected::AnyOf(Arc::new(servers));
        Ok(Self {
            config: credentials.client_config(expected, &[b"h2"])?,
            address: pair.doors.mesh,
            url: format!("http://{}/", pair.doors.http1.authority),
            senders: Vec::new(),
            tasks: JoinSet::new(),
        })
    }

    pub(super) async fn open(&mut self, number: usize) -> Result<()> {
        for _ in 0..number {
            let socket = TcpStream::connect(self.address).await?;
            let tls = mtls::connect(socket, self.config.clone()).await?;
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await;
            let (mut sender, connection) = handshake?;
            self.tasks.spawn(connection);
            let request = Request::get(&self.url).body(Empty::<Bytes>::new())?;
            let answer = sender.send_request(request).await?;
            anyhow::ensure!(answer.status().is_success(), "refused: {answer:?}");
            answer.into_body().collect().await?;
            self.senders.push(sender);
        }
        Ok(())
    }

    /// How many are still open.
    pub(super) fn alive(&self) -> usize {
        let senders = self.senders.iter();
        senders.filter(|sender| !sender.is_closed()).count()
    }
}
