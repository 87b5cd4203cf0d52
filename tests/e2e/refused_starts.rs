//! What a binary cannot start from: one clear line, an exit status that is not zero, and nothing
//! touched.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use mesh_tests::operator::{CaProcess, configuration};
use mesh_tests::processes::{Process, free_address};
use mesh_tests::waiting::DEADLINE;
use tempfile::TempDir;
use tokio::time::timeout;

#[tokio::test]
async fn an_unknown_key_is_refused_and_the_nearest_known_one_named() {
    let directory = directory();
    for binary in ["countersign-ca", "countersign-agent", "countersign-proxy"] {
        let said = refusal(binary, directory.path(), "[listn]\n").await;
        assert!(said.contains("did you mean `listen`?"), "{binary}: {said}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let directory = directory();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let config = configuration(directory.path(), free_address());
    let web = config.lines().find(|line| line.starts_with("web = "));
    let config = config.replace(web.expect("it listens"), &format!("web = \"{taken}\""));
    let said = refusal("countersign-ca", directory.path(), &config).await;
    assert!(said.contains(&taken), "{said}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let directory = directory();
    // A file where a folder should be stops root, too.
    fs::write(directory.path().join("data"), "kept").expect("writable");
    let config = configuration(directory.path(), free_address());
    let said = refusal("countersign-ca", directory.path(), &config).await;
    assert!(said.contains("/data"), "{said}");
    let data = fs::read(directory.path().join("data")).expect("it is still a file");
    assert_eq!(data, b"kept");
}

#[tokio::test]
async fn a_wrong_kek_is_refused_and_the_store_still_opens_with_the_right_one() {
    let ca = CaProcess::start().await;
    let (config, directory) = (ca.config().to_owned(), ca.crash().await);
    let kek = directory.path().join("keys/kek");
    let right = fs::read(&kek).expect("the KEK is a file");
    let wrong: Vec<u8> = right.iter().rev().copied().collect();
    fs::write(&kek, wrong).expect("writable");
    let said = refusal("countersign-ca", directory.path(), &config).await;
    assert!(said.to_lowercase().contains("key-encryption key"), "{said}");
    fs::write(&kek, right).expect("writable");
    CaProcess::restart_in(directory, &config).await;
}

#[tokio::test]
async fn a_second_ca_on_one_store_is_refused() {
    let ca = CaProcess::start().await;
    let addresses = configuration(ca.directory(), free_address());
    let said = refusal("countersign-ca", ca.directory(), &addresses).await;
    assert!(said.contains("ca.sqlite"), "{said}");
    ca.admin()
        .get("/v1/about")
        .await
        .expect("the first goes on");
}

/// The one line that it ends with.
async fn refusal(binary: &str, directory: &Path, config: &str) -> String {
    let mut process = Process::start(binary, directory, "refused", config);
    let ended = timeout(DEADLINE, process.ended()).await.expect("it ends");
    let said = process.said();
    assert!(!ended.success(), "it ended well: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    said
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
