//! Clocks that are five minutes off, of real processes: Debian's libfaketime moves them.

use std::fs;
use std::path::{Path, PathBuf};

use mesh_tests::invariants::{Witness, renew};
use mesh_tests::replicas::Replicas;
use mesh_tests::stranger::{Line, join};
use mesh_tests::waiting::eventually;
use runtime::Clock;
use tempfile::TempDir;

use super::hosts::Shop;

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const OFF: [&str; 2] = ["+300s", "-300s"];
const RIGHT: &str = "+0s";

/// A clock that some processes have, and a test moves.
struct FakeClock {
    directory: TempDir,
    library: PathBuf,
}

impl FakeClock {
    /// `None` where there is no libfaketime.
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let clock = Self {
            library: library()?,
            directory,
        };
        clock.set(RIGHT);
        Some(clock)
    }

    /// Whoever reads it meanwhile reads the one or the other.
    fn set(&self, offset: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, offset).expect("the directory is ours");
        fs::rename(next, self.file()).expect("the directory is ours");
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let variables = [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file())),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }
}

#[tokio::test]
async fn a_replica_whose_clock_is_off_signs_nothing_and_goes_on_when_it_is_right() {
    let Some(clock) = FakeClock::new() else {
        return;
    };
    let Some((mesh, mut replicas)) = Replicas::start(1).await else {
        return;
    };
    replicas.remove(0).crash().await;
    let environment = clock.environment();
    let variables: Vec<_> = environment.iter().map(|(a, b)| (&**a, &**b)).collect();
    let ca = mesh.restart(0, &variables).await;
    ca.register("shop", "orders").await;
    let token = ca.join_token("web-7", &["shop/orders"]).await;
    let agent = join(&token, &Clock::system()).await;
    let mut witness = Witness::of(&ca).await;
    let line = Line::mutual(ca.agents_address(), &agent, &Clock::system()).await;
    for offset in OFF {
        clock.set(offset);
        eventually("it is not ready, and says why", || async {
            let refusal = ca.admin().get("/readyz").await.err()?;
            refusal.to_string().contains("clock-off").then_some(())
        })
        .await;
        assert_eq!(renew(&line, &agent, ORDERS).await, None);
        clock.set(RIGHT);
        let serial = eventually("it signs again", || renew(&line, &agent, ORDERS));
        witness.got(ORDERS, serial.await);
    }
    witness.holds(&ca).await;
}

#[tokio::test]
async fn a_host_whose_clock_is_off_uses_nothing_out_of_its_time_and_comes_back_when_it_is_right() {
    let Some(clock) = FakeClock::new() else {
        return;
    };
    let shop = Shop::open(clock.environment()).await;
    for offset in OFF {
        clock.set(offset);
        shop.calls.fail().await;
        clock.set(RIGHT);
        shop.calls.pass_by_the_new_clock().await;
    }
    shop.witness.holds(&shop.ca).await;
}

#[expect(clippy::print_stderr, reason = "a skip must be seen")]
fn library() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    // Below a folder for each architecture.
    let mut found = found.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    let library = found.find(|path| path.exists());
    if library.is_none() {
        assert!(
            option_env!("CI").is_none(),
            "there is no libfaketime: install Debian's libfaketime"
        );
        eprintln!(
            "SKIPPED: there is no libfaketime; install it with `apt-get install libfaketime`"
        );
    }
    library
}
