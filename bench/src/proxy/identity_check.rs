//! Whether a pair looks at whom it talks to: a server with another's SVID gets no request answered,
//! a caller with another's SVID gets no answer. Run before anything is measured, since a proxy that
//! checks less costs less.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use identity::x509::X509Svid;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_rustls::TlsAcceptor;

use super::identities::Identities;
use super::pair::Pair;
use super::peer::{Ports, Site};
use crate::load::handshakes::{Client, KeyExchange};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// While the inbound proxy is not there yet: the outbound one reaches a server of ours that shows
/// the right SVID, and does not pass on what one with the wrong SVID says.
pub(super) async fn of_server(name: &str, ports: &Ports, all: &Identities) -> Result<()> {
    let right = through(ports.http1, ports.mesh_http1, &all.orders).await?;
    ensure!(right, "{name} does not reach a server with the right SVID");
    let wrong = through(ports.http1, ports.mesh_http1, &all.intruder).await?;
    ensure!(
        !wrong,
        "{name} takes the answer of a server with a wrong SPIFFE ID"
    );
    Ok(())
}

/// The inbound proxy answers the right caller alone.
pub(super) async fn of_client(pair: &Pair, all: &Identities) -> Result<()> {
    let name = pair.name;
    ensure!(
        answered(pair, &all.checkout).await?,
        "{name} does not answer the right caller"
    );
    ensure!(
        !answered(pair, &all.intruder).await?,
        "{name} answers a caller with a wrong SPIFFE ID"
    );
    Ok(())
}

async fn answered(pair: &Pair, caller: &X509Svid) -> Result<bool> {
    let client = Client::new(caller, KeyExchange::X25519, &[b"http/1.1"])?;
    let (address, authority) = (pair.doors.mesh, pair.doors.http1.authority.clone());
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let said = spawn_blocking(move || client.exchange(address, request.as_bytes())).await?;
    Ok(said.is_ok_and(|said| said.starts_with(b"HTTP/1.1 200")))
}

/// Whether a call at `door` is answered by a server at `at` which shows `svid`.
async fn through(door: SocketAddr, at: SocketAddr, svid: &X509Svid) -> Result<bool> {
    let listener = TcpListener::bind(at).await.context("bind the impostor")?;
    let acceptor = TlsAcceptor::from(server(svid)?);
    let mut impostor = JoinSet::new();
    impostor.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(serve(acceptor.clone(), socket));
        }
    });
    let call = spawn_blocking(move || call(door)).await?;
    impostor.shutdown().await;
    Ok(call?.starts_with("HTTP/1.1 200"))
}

async fn serve(acceptor: TlsAcceptor, socket: tokio::net::TcpStream) -> Result<()> {
    let mut tls = acceptor.accept(socket).await?;
    let mut request = [0; 4096];
    while tls.read(&mut request).await? > 0 {
        tls.write_all(ANSWER).await?;
        tls.flush().await?;
    }
    Ok(())
}

fn call(door: SocketAddr) -> Result<String> {
    use std::io::{Read, Write};
    let mut socket = TcpStream::connect(door)?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let host = Site::AUTHORITY;
    write!(
        socket,
        "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    // A reset after the answer, or instead of it, is for the caller to judge by what was said.
    let _end = socket.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn server(svid: &X509Svid) -> Result<Arc<ServerConfig>> {
    let key = CertifiedKey::new(svid.svid().chain().to_vec(), svid.key().rustls_key());
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
