//! Other users of this host.

use std::process::Stdio;

use countersign_proxy::{Reachable, Reason};
use nix::unistd::geteuid;
use tokio::process::Command;

use crate::mesh::Mesh;
use crate::policies::{allowing, pair};
use crate::wire::Wire;

#[tokio::test]
async fn a_caller_of_another_uid_is_refused() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: needs root, to call as another user");
        return;
    }
    let (_mesh, application, _orders, mut checkout) = pair().await;
    let port = checkout.outbound().port();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; \
         printf 'GET /v1/a HTTP/1.1\\r\\nhost: orders.shop.mesh.internal\\r\\nconnection: close\\r\\n\\r\\n' >&3; \
         cat <&3"
    );
    let output = Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "bash",
            "-c",
            &script,
        ])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();

    let answer = String::from_utf8(output.stdout).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 403"), "{answer}");
    assert!(
        answer.contains("countersign-reason: caller-not-local"),
        "{answer}"
    );
    assert_eq!(checkout.record().await.reason, Some(Reason::CallerNotLocal));
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn the_unix_socket_is_the_same_way_out() {
    let mesh = Mesh::start(&allowing("shop/checkout"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.sock");
    let mut config = mesh.config("shop/checkout");
    config.outbound.as_mut().unwrap().unix_socket = Some(path.clone());
    let _checkout = mesh.sidecar_with(config).await;

    let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    let answer = Wire::over(stream).get_from("example.com", "/").await;

    assert_eq!(answer.field("countersign-reason"), Some("no-route"));
}

#[tokio::test]
async fn an_application_beside_the_proxy_is_reported() {
    let (_mesh, application, orders, _checkout) = pair().await;
    let mut status = orders.proxy.status();
    let found = status
        .wait_for(|status| !status.bypassable.is_empty())
        .await
        .unwrap();
    let port = &found.bypassable[0];
    assert_eq!(port.application_port, application.address.port());
    assert_eq!(port.reach, Reachable::LocalUsers);
}
