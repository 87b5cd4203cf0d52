//! Two users of one host: what is one user's is not the other's.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mesh_tests::mesh::Mesh;
use mesh_tests::other_user::{NOBODY, OtherUser};
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::workload::Workload;
use proto::mesh::v1::PROTOCOL;
use tempfile::TempDir;

const FETCH: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
const SUBSCRIBE: &str = "/countersign.mesh.v1.MeshFeed/Subscribe";
const SECURITY_HEADER: &str = "workload.spiffe.io: true";
const PERMISSION_DENIED: &str = "grpc-status: 7";

#[tokio::test]
async fn a_process_of_another_user_gets_no_identity() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let (directory, _workload) = with_open_sockets(&mesh, NOBODY).await;
    let socket = path(&directory, "workload.sock");
    let empty = message(&directory, &[]);
    let answer = nobody.grpc(&socket, FETCH, SECURITY_HEADER, &empty).await;
    assert!(answer.contains(PERMISSION_DENIED), "{answer}");
}

#[tokio::test]
async fn a_call_without_the_security_header_is_refused_first() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let (directory, _workload) = with_open_sockets(&mesh, NOBODY).await;
    let socket = path(&directory, "workload.sock");
    let empty = message(&directory, &[]);
    let answer = nobody.grpc(&socket, FETCH, "x-other: true", &empty).await;
    assert!(answer.contains("grpc-status: 3"), "{answer}");
}

#[tokio::test]
async fn a_user_that_no_proxy_entry_names_gets_no_feed() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let (directory, _workload) = with_open_sockets(&mesh, NOBODY - 1).await;
    let answer = subscribe(nobody, &directory).await;
    assert!(answer.contains(PERMISSION_DENIED), "{answer}");
}

#[tokio::test]
async fn a_user_that_a_proxy_entry_names_gets_its_feed() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let (directory, _workload) = with_open_sockets(&mesh, NOBODY).await;
    let answer = subscribe(nobody, &directory).await;
    assert!(
        answer.contains("spiffe://mesh.test/ns/shop/sa/orders"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_feed_socket_itself_is_closed_to_other_users() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let (directory, _workload) = with_sockets(&mesh, NOBODY).await;
    let answer = subscribe(nobody, &directory).await;
    assert!(
        answer.contains("couldn't connect") || answer.contains("could not connect"),
        "{answer}"
    );
}

#[tokio::test]
async fn nobody_else_calls_with_the_workloads_identity() {
    let Some(nobody) = OtherUser::obtain() else {
        return;
    };
    let shop = Shop::open().await;
    let proxy = format!("http://{}", shop.checkout.outbound());
    let url = format!("{ORDERS}/v1/orders");
    let answer = nobody.curl(&["--proxy", &proxy, &url]).await;
    assert!(
        answer.contains("countersign-reason: caller-not-local"),
        "{answer}"
    );
    assert_eq!(shop.application.requests(), 0);
}

/// One `Subscribe` for the workload's feed.
async fn subscribe(nobody: OtherUser, directory: &TempDir) -> String {
    // ProxyMessage { subscribe { version: of today, workload: "shop/orders", engine_version: 1 } }
    let minor = u8::try_from(PROTOCOL.minor).expect("a small number");
    let subscribe = [
        b"\x0a\x15\x0a\x04\x08\x01\x10".as_slice(),
        &[minor],
        b"\x12\x0bshop/orders\x20\x01",
    ];
    let message = message(directory, &subscribe.concat());
    let socket = path(directory, "feed.sock");
    nobody
        .grpc(&socket, SUBSCRIBE, "x-other: true", &message)
        .await
}

/// A gRPC message in a file, as `curl` takes it.
fn message(directory: &TempDir, bytes: &[u8]) -> String {
    let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
    let file = directory.path().join("message");
    fs::write(&file, [&[0], length.as_slice(), bytes].concat()).expect("writable");
    open_to_all(&file, 0o644);
    format!("@{}", file.display())
}

/// An agent of `shop/orders` whose feed is for `proxy_uid`, and whose sockets the file system
/// lets everybody have, so that only the agent can refuse.
async fn with_open_sockets(mesh: &Mesh, proxy_uid: u32) -> (TempDir, Workload) {
    let (directory, workload) = with_sockets(mesh, proxy_uid).await;
    for socket in ["workload.sock", "feed.sock"] {
        open_to_all(&directory.path().join(socket), 0o666);
    }
    (directory, workload)
}

async fn with_sockets(mesh: &Mesh, proxy_uid: u32) -> (TempDir, Workload) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    open_to_all(directory.path(), 0o755);
    let workload = mesh
        .workload("shop/orders")
        .by_uid()
        .with_sockets_in(directory.path(), proxy_uid);
    let workload = workload.start().await;
    (directory, workload)
}

fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}
