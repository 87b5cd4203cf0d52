//! The disk that holds the store is full: nothing is issued, nothing is lost, and it goes on when
//! there is room again.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesh_tests::invariants::{Witness, renew};
use mesh_tests::operator::CaProcess;
use mesh_tests::stranger::{Line, join, key_and_csr};
use mesh_tests::waiting::eventually;
use runtime::Clock;
use tonic::Code;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const NAMESPACE: [&str; 2] = ["--map-root-user", "--mount"];

#[tokio::test]
async fn on_a_full_disk_nothing_is_issued_and_it_goes_on_when_there_is_room() {
    if !namespaces() {
        return;
    }
    let ca = CaProcess::start_through(on_a_small_disk).await;
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let agent = join(&token, &Clock::system()).await;
    let mut witness = Witness::of(&ca).await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    let before = renew(&line, &agent, ORDERS).await.expect("there is room");
    witness.got(ORDERS, before);

    let filler = fill(&ca);
    let refused = eventually("the CA refuses", || async {
        line.issue(ORDERS, key_and_csr().1).await.err()
    });
    assert_eq!(refused.await, Code::Unavailable);
    fs::remove_file(filler).expect("it is ours");
    let after = eventually("it issues again", || renew(&line, &agent, ORDERS));
    witness.got(ORDERS, after.await);
    witness.holds(&ca).await;
}

/// A script that gives the CA a file system of its own for its data, and becomes it.
fn on_a_small_disk(directory: &Path, binary: &Path) -> PathBuf {
    let script = directory.join("small-disk");
    let data = directory.join("data");
    let text = format!(
        "#!/bin/sh\nmkdir -m 700 '{data}'\nexec unshare {} sh -c \
         'mount -t tmpfs -o size=4m,mode=0700 none \"$0\" && exec \"$@\"' '{data}' '{}' \"$@\"\n",
        NAMESPACE.join(" "),
        binary.display(),
        data = data.display(),
    );
    fs::write(&script, text).expect("the directory is ours");
    let runs = fs::Permissions::from_mode(0o700);
    fs::set_permissions(&script, runs).expect("it is ours");
    script
}

/// Takes all the room that is left, as the CA sees it. Where its files grow into room that they
/// have already, it takes a few records until they need more.
fn fill(ca: &CaProcess) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", ca.pid()));
    let data = ca.directory().join("data/filler");
    let path = root.join(data.strip_prefix("/").expect("an absolute path"));
    let mut file = fs::File::create(&path).expect("there is room for a name");
    let mut piece = 64 * 1024;
    while piece > 0 {
        if file.write_all(&vec![1; piece]).is_err() {
            piece /= 2;
        }
    }
    path
}

#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn namespaces() -> bool {
    let tried = Command::new("unshare").args(NAMESPACE).arg("true").status();
    if tried.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(
        option_env!("CI").is_none(),
        "no mount namespaces here, and CI skips nothing"
    );
    eprintln!("SKIPPED: a full disk needs a mount namespace, which is not to be had here");
    false
}
