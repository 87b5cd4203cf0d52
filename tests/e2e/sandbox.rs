//! `countersign-proxy` gives up what it does not need; a proxy inside another program takes
//! nothing from it.

use std::fs;

use mesh_tests::host::Host;
use mesh_tests::operator::CaProcess;
use mesh_tests::shop::Shop;

#[tokio::test]
async fn a_program_with_a_proxy_inside_loses_nothing() {
    let _shop = Shop::open().await;
    assert_eq!(restrictions("self"), ("0".to_owned(), "0".to_owned()));
}

#[tokio::test]
async fn the_proxy_process_is_restricted_and_says_so() {
    let ca = CaProcess::start().await;
    ca.register("shop", "orders").await;
    let host = Host::start(&ca, "orders-1", "shop/orders", None).await;

    let status = host.ready().await;

    let pid = host.proxy.pid().to_string();
    assert_eq!(restrictions(&pid), ("1".to_owned(), "2".to_owned()));
    assert_eq!(status["sandbox"]["seccomp"], "enforced");
    let landlock = status["sandbox"]["landlock"].as_str().expect("a text");
    assert!(landlock.starts_with("enforced") || landlock == "not available");
}

/// `NoNewPrivs` and `Seccomp` (2 is a filter) of a process.
fn restrictions(process: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.expect("this kernel says so").trim().to_owned()
    };
    (of("NoNewPrivs:"), of("Seccomp:"))
}
