//! A workload's real identity in a test's own hands: to speak to mesh listeners byte by byte, or
//! to let other people's programs speak to them.

use std::net::SocketAddr;

use crypto::signing::SigningKey;
use identity::JoinToken;
use identity::x509::X509Svid;
use proto::agent::v1::issue_result::Result as Issued;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::mesh::Mesh;
use crate::raw::{Client, Verdict};
use crate::stranger::{Line, join, key_and_csr, verified};

/// Holds the SVID of a registered workload.
#[derive(Debug, Clone)]
pub struct Holder {
    chain: Vec<CertificateDer<'static>>,
    key: SigningKey,
}

/// A plain port in front of a TLS one. Ends with its handle.
#[derive(Debug)]
pub struct Bridge {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Holder {
    /// Of the workload `shop/name`, which has to be registered.
    pub async fn of(mesh: &Mesh, name: &str) -> Self {
        let workload = format!("shop/{name}");
        let token = mesh
            .join_token(&format!("holder-{name}"), &[&workload])
            .await;
        let token: JoinToken = token.parse().expect("a token");
        let agent = join(&token, &mesh.time()).await;
        let line = Line::mutual(mesh.ca.agents_address(), &agent, &mesh.time()).await;
        let (key, csr) = key_and_csr();
        let id = format!("spiffe://{}/ns/shop/sa/{name}", mesh.ca.trust_domain());
        let answer = line.issue(&id, csr).await.expect("answered").result;
        let Some(Issued::Svid(svid)) = answer else {
            panic!("{answer:?}")
        };
        let svid: X509Svid = verified(svid, key, &agent.bundles, &mesh.time());
        Self {
            chain: svid.svid().chain().to_vec(),
            key: svid.key().clone(),
        }
    }

    pub async fn connect(&self, listener: SocketAddr, alpn: &[u8]) -> TlsStream<TcpStream> {
        let client = Client {
            chain: self.chain.clone(),
            key: Some(&self.key),
            version: &TLS13,
        };
        let tls = client.connect_speaking(listener, alpn).await;
        tls.expect("the listener admits a live certificate")
    }

    /// What the listener says to this certificate.
    pub async fn verdict(&self, listener: SocketAddr) -> Verdict {
        let client = Client {
            chain: self.chain.clone(),
            key: Some(&self.key),
            version: &TLS13,
        };
        client.try_on(listener).await
    }

    /// Carries what it gets on a plain port to a mesh listener, and back.
    pub async fn bridge(&self, listener: SocketAddr, alpn: &'static [u8]) -> Bridge {
        let plain = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = plain.local_addr().expect("bound");
        let holder = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((plain, _)) = plain.accept().await {
                let holder = holder.clone();
                connections.spawn(async move {
                    carry(plain, holder.connect(listener, alpn).await).await;
                });
            }
        });
        Bridge {
            address,
            _tasks: tasks,
        }
    }
}

/// Each direction to its own end: what is still to be read is read when nothing more is taken.
async fn carry(plain: TcpStream, tls: TlsStream<TcpStream>) {
    let (mut from_plain, mut to_plain) = plain.into_split();
    let (mut from_tls, mut to_tls) = tokio::io::split(tls);
    let there = async {
        drop(copy(&mut from_plain, &mut to_tls).await);
        drop(to_tls.shutdown().await);
    };
    let back = async {
        drop(copy(&mut from_tls, &mut to_plain).await);
        drop(to_plain.shutdown().await);
    };
    // What comes back ends last: an answer, or the end of the connection.
    tokio::select! {
        () = back => {}
        () = async { there.await; std::future::pending().await } => {}
    }
}

impl Bridge {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
