//! Claims about issuers whose keys are fetched by HTTPS, from a real server.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use bytes::Bytes;
use crypto::signing::SigningKey;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, RwLock};
use tokio::task::JoinSet;
use tonic::Code;

use super::agent::refused;
use super::harness::TestCa;
use super::issuers::{Cluster, attest, config};

/// Answers every request with the same words.
struct KeysServer {
    url: String,
    root: String,
    answer: Arc<Mutex<(StatusCode, String)>>,
    /// A request has come.
    asked: Arc<Notify>,
    /// Nothing is answered while somebody writes.
    gate: Arc<RwLock<()>>,
    _serving: JoinSet<()>,
}

impl KeysServer {
    async fn start(status: StatusCode, body: String) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let root = params.self_signed(&key).unwrap().pem();
        let pem = key.serialize_pem();
        let tls = mtls::web::server_config_from_pem(root.as_bytes(), pem.as_bytes(), &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}/keys",
            listener.local_addr().unwrap().port()
        );
        let answer = Arc::new(Mutex::new((status, body)));
        let mut serving = JoinSet::new();
        let said = Arc::clone(&answer);
        let (asked, gate) = (Arc::new(Notify::new()), Arc::new(RwLock::new(())));
        let (request, opened) = (Arc::clone(&asked), Arc::clone(&gate));
        serving.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that does not believe the certificate ends the handshake.
                let Ok(stream) = mtls::accept(stream, tls.clone()).await else {
                    continue;
                };
                let service = service_fn(async |_| {
                    request.notify_one();
                    drop(opened.read().await);
                    let (status, body) = said.lock().unwrap().clone();
                    let mut answer = http::Response::new(Full::new(Bytes::from(body)));
                    *answer.status_mut() = status;
                    Ok::<_, std::convert::Infallible>(answer)
                });
                // One that hangs up has heard enough.
                drop(
                    http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            }
        });
        Self {
            url,
            root,
            answer,
            asked,
            gate,
            _serving: serving,
        }
    }

    /// A CA that fetches keys here, and believes `root` about this host.
    async fn ca(&self, root: &str) -> TestCa {
        let directory = tempfile::tempdir().unwrap();
        let roots_file = directory.path().join("roots.pem");
        std::fs::write(&roots_file, root).unwrap();
        let mut issuer = config(&roots_file);
        issuer.keys_file = None;
        issuer.keys_url = Some(self.url.parse().unwrap());
        issuer.roots_file = Some(roots_file);
        TestCa::start_with(|ca| ca.attest.jwt = vec![issuer]).await
    }
}

async fn unavailable(server: &KeysServer, root: &str) {
    let cluster = Cluster::new();
    let ca = server.ca(root).await;
    let token = cluster.token(&ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::Unavailable, "issuer-keys-unavailable");
}

#[tokio::test]
async fn a_host_that_nobody_vouches_for_is_not_believed() {
    let server = KeysServer::start(StatusCode::OK, Cluster::new().keys()).await;
    let other = KeysServer::start(StatusCode::OK, String::new()).await;
    unavailable(&server, &other.root).await;
}

#[tokio::test]
async fn answers_that_are_no_keys_are_not_believed() {
    for (status, body) in [
        (StatusCode::FOUND, Cluster::new().keys()),
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, " ".repeat(256 * 1024 + 1)),
    ] {
        let server = KeysServer::start(status, body).await;
        unavailable(&server, &server.root).await;
    }
}

#[tokio::test]
async fn keys_are_fetched_and_kept() {
    let cluster = Cluster::new();
    let server = KeysServer::start(StatusCode::OK, cluster.keys()).await;
    let ca = server.ca(&server.root).await;
    for turn in 0..2 {
        let token = cluster.token(&ca, &json!({ "jti": turn }));
        attest(&ca, &token, &SigningKey::generate()).await.unwrap();
        // The second turn has only what was kept.
        *server.answer.lock().unwrap() = (StatusCode::BAD_GATEWAY, String::new());
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_while_keys_are_fetched_takes_them_from_nobody() {
    let cluster = Cluster::new();
    let server = KeysServer::start(StatusCode::OK, cluster.keys()).await;
    let ca = server.ca(&server.root).await;
    let held = server.gate.write().await;
    let (token, key) = (cluster.token(&ca, &json!({})), SigningKey::generate());
    tokio::select! {
        answer = attest(&ca, &token, &key) => panic!("{answer:?}"),
        () = server.asked.notified() => {}
    }
    // The CA has heard of that when it answers who came later.
    let elsewhere = cluster.token(&ca, &json!({"iss": "https://elsewhere.example"}));
    let stranger = attest(&ca, &elsewhere, &key).await;
    refused(stranger, Code::PermissionDenied, "unknown-issuer");
    drop(held);
    attest(&ca, &token, &key).await.unwrap();
}
