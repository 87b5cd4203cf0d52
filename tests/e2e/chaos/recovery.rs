//! The root is burnt while every agent is away and everything has expired: the way back is what the
//! operator's program makes, from the key to the update.

use std::path::{Path, PathBuf};
use std::process::Output;

use mesh_tests::operator::{CaProcess, countersign};
use serde_json::Value;
use tempfile::TempDir;

use super::replicated::Hosts;

const LIFETIMES: &str = "agent = \"4s\"\nworkload = \"4s\"\nmargin = \"1s\"";

/// What is kept away from every CA.
struct Safe(TempDir);

impl Safe {
    /// With the one recovery key.
    async fn furnished() -> Self {
        let safe = Self(tempfile::tempdir().expect("a temporary directory"));
        safe.key("recovery").await;
        safe
    }

    /// Makes a key; its public half is beside it.
    async fn key(&self, name: &str) {
        let key = self.place(name);
        let made = offline(&["generate-key", "--to", &text(&key)]).await;
        self.put(&format!("{name}.pub"), &stdout(made));
    }

    async fn sign(&self, key: &str, request: &str) -> Output {
        let [key, request] = [key, request].map(|name| text(&self.place(name)));
        offline(&["sign", "--key", &key, &request]).await
    }

    fn put(&self, name: &str, content: &str) {
        std::fs::write(self.place(name), content).expect("the directory is ours");
    }

    fn place(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn a_mesh_that_was_away_while_its_root_burnt_comes_back_by_the_operators_recovery_key() {
    let safe = Safe::furnished().await;
    let public = text(&safe.place("recovery.pub"));
    let settings = format!("{LIFETIMES}\n[recovery]\npublic_key_file = \"{public}\"");
    let ca = CaProcess::start_with(&settings).await;
    let mut shop = Hosts::open(&ca).await;
    for (_, host) in &mut shop.hosts {
        host.stop_agent().await;
    }
    shop.calls.fail().await;
    let burn = ["authority", "rotate", "--compromised", "--within", "4s"];
    stdout(ca.countersign(&burn).await);
    let ca = ca.crash_and_restart().await;
    let request = stdout(recovery(&ca, &["request"]).await);
    safe.put("request", &request);

    refuse_what_others_sign(&safe, &ca, &request).await;
    let update = stdout(safe.sign("recovery", "request").await);
    safe.put("update", &update);
    let publish = ["publish", &text(&safe.place("update"))];
    stdout(recovery(&ca, &publish).await);
    let replayed = recovery(&ca, &publish).await;

    assert!(refusal(&replayed).contains("bundle-update-refused"));
    for (_, host) in &mut shop.hosts {
        host.start_agent_again();
    }
    shop.calls.pass().await;
}

/// Neither the program of an honest operator signs with another key, nor does the CA publish what a
/// thief has signed, who tells the program what it wants to hear.
async fn refuse_what_others_sign(safe: &Safe, ca: &CaProcess, request: &str) {
    safe.key("thiefs").await;
    let honest = safe.sign("thiefs", "request").await;
    assert!(refusal(&honest).contains("another one"));
    let mut forged: Value = serde_json::from_str(request).expect("JSON");
    let public = std::fs::read(safe.place("thiefs.pub")).expect("it was made");
    let public = identity::recovery::public_from_pem(&public).expect("a key");
    forged["keySha256"] = public.fingerprint().to_string().into();
    safe.put("forged", &forged.to_string());
    let update = stdout(safe.sign("thiefs", "forged").await);
    safe.put("thiefs-update", &update);
    let published = recovery(ca, &["publish", &text(&safe.place("thiefs-update"))]).await;
    assert!(refusal(&published).contains("bundle-update-refused"));
}

async fn offline(arguments: &[&str]) -> Output {
    countersign(&[&["authority", "recovery"], arguments].concat()).await
}

async fn recovery(ca: &CaProcess, arguments: &[&str]) -> Output {
    ca.countersign(&[&["authority", "recovery"], arguments].concat())
        .await
}

#[track_caller]
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}
