//! What the Workload API gives to validators that know no deny-list, as OpenSSL and Go judge by it.

use std::path::Path;
use std::process::Command;

use data_encoding::BASE64;
use mesh_tests::mesh::Mesh;
use mesh_tests::replicas::Replicas;
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;
use runtime::Clock;
use serde_json::json;
use tempfile::TempDir;
use workload_agent::Agent;
use workload_api::{Endpoint, X509Context, X509Source};

/// A leaf as it was, and what a validator knows now.
struct Leaf {
    files: TempDir,
    serial: String,
}

impl Leaf {
    /// The one that the source holds.
    fn of(source: &X509Source) -> Option<Self> {
        let context = source.current()?;
        let svid = context.default_identity().svid.svid();
        let leaf = Self {
            files: tempfile::tempdir().expect("a directory"),
            serial: svid.serial().to_string(),
        };
        let (own, above) = svid.chain().split_first()?;
        leaf.write("leaf.pem", "CERTIFICATE", [own.as_ref()]);
        leaf.write("above.pem", "CERTIFICATE", above.iter().map(AsRef::as_ref));
        Some(leaf)
    }

    fn write<'a>(&self, name: &str, label: &str, ders: impl IntoIterator<Item = &'a [u8]>) {
        let pem = |der| {
            let text = BASE64.encode(der);
            let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
            let lines = lines.collect::<Vec<_>>().join("\n");
            format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
        };
        let text: String = ders.into_iter().map(pem).collect();
        std::fs::write(self.path(name), text).expect("written");
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new(self.files.path()).join(name)
    }

    /// What OpenSSL says of it by the bundle and the lists of this source, where every authority of
    /// the chain must have one.
    fn verdict(&self, by: &X509Source) -> Option<Verdict> {
        let context = by.current()?;
        self.write_what_is_known(&context);
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check_all", "-CAfile"])
            .arg(self.path("roots.pem"))
            .arg("-untrusted")
            .arg(self.path("above.pem"))
            .arg("-CRLfile")
            .arg(self.path("lists.pem"))
            .arg(self.path("leaf.pem"))
            .output()
            .expect("openssl is installed");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        match said.contains("certificate revoked") {
            true => Some(Verdict::Revoked),
            false if said.trim_end().ends_with(": OK") => Some(Verdict::Good),
            false => None,
        }
    }

    fn write_what_is_known(&self, context: &X509Context) {
        let bundle = context.bundles().iter().next().expect("a bundle");
        let roots = bundle.authorities().iter().map(|root| root.der().as_ref());
        self.write("roots.pem", "CERTIFICATE", roots);
        let lists = context.revocation_lists().iter().map(Vec::as_slice);
        self.write("lists.pem", "X509 CRL", lists);
    }

    async fn is_soon(&self, wanted: Verdict, by: &X509Source) {
        let what = format!("OpenSSL says {wanted:?} of {}", self.serial);
        let verdict = || async { self.verdict(by).filter(|it| *it == wanted) };
        eventually(&what, verdict).await;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    Revoked,
}

/// A program of Go's standard library, `tests/interop/crl`.
struct GoProgram(TempDir);

impl GoProgram {
    /// `None` without Go: the claim is skipped, and says so.
    #[expect(clippy::print_stderr, reason = "a skip must be seen")]
    fn obtain() -> Option<Self> {
        let program = Self(tempfile::tempdir().expect("a directory"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/crl");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(program.path())
            .arg(".")
            .current_dir(source)
            .output();
        let Ok(built) = built else {
            assert!(
                option_env!("CI").is_none(),
                "CI skips nothing: Go is missing"
            );
            eprintln!("SKIPPED: Go is missing");
            return None;
        };
        assert!(built.status.success(), "{built:?}");
        Some(program)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("crl")
    }

    /// What it says of the files that OpenSSL has judged by last.
    fn says(&self, leaf: &Leaf) -> String {
        let output = Command::new(self.path()).arg(leaf.files.path()).output();
        let output = output.expect("it was built");
        let said = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&said).trim_end().to_owned()
    }
}

fn read(workload: &Workload, time: Clock) -> X509Source {
    X509Source::start(Endpoint::Unix(workload.workload_api()), time)
}

/// That of now; an empty list of each authority above has come too.
async fn good(source: &X509Source) -> Leaf {
    eventually("OpenSSL takes a leaf", || async {
        let leaf = Leaf::of(source)?;
        (leaf.verdict(source)? == Verdict::Good).then_some(leaf)
    })
    .await
}

async fn replaced(leaf: &Leaf, source: &X509Source) {
    eventually("a good successor is held", || async {
        let now = Leaf::of(source)?;
        let good = now.serial != leaf.serial && now.verdict(source)? == Verdict::Good;
        good.then_some(())
    })
    .await;
}

fn theft(kind: &str, subject: &str) -> serde_json::Value {
    json!({"kind": kind, "subject": subject, "reason": "stolen"})
}

async fn revoke(mesh: &Mesh, serial: &str) {
    let wish = theft("serial", serial);
    let revoked = mesh.admin().post("/v1/revocations", &wish);
    revoked.await.expect("it is revoked");
}

#[tokio::test]
async fn openssl_refuses_a_leaf_by_the_lists_once_it_is_revoked_and_not_before() {
    let mesh = Mesh::start().await;
    let reader = mesh.workload("shop/reader").by_uid().start().await;
    let source = read(&reader, mesh.time());
    let leaf = good(&source).await;
    revoke(&mesh, &leaf.serial).await;
    leaf.is_soon(Verdict::Revoked, &source).await;
    replaced(&leaf, &source).await;
}

#[tokio::test]
async fn go_believes_a_list_that_its_authority_has_signed_and_refuses_a_leaf_by_it() {
    let Some(go) = GoProgram::obtain() else {
        return;
    };
    let mesh = Mesh::start().await;
    let reader = mesh.workload("shop/reader").by_uid().start().await;
    let source = read(&reader, mesh.time());
    let leaf = good(&source).await;
    assert_eq!(go.says(&leaf), "good");
    let mut forged = source.current().expect("held").revocation_lists().to_vec();
    let signatures = forged.iter_mut().filter_map(|list| list.last_mut());
    signatures.for_each(|byte| *byte ^= 1);
    leaf.write("lists.pem", "X509 CRL", forged.iter().map(Vec::as_slice));
    let refusal = go.says(&leaf);
    assert!(refusal.starts_with("error: no list of"), "{refusal}");
    revoke(&mesh, &leaf.serial).await;
    leaf.is_soon(Verdict::Revoked, &source).await;
    assert_eq!(go.says(&leaf), "revoked");
}

#[tokio::test]
async fn what_leads_to_a_lost_intermediate_is_refused_and_replaced_when_something_of_it_is_revoked()
{
    let mesh = Mesh::start().await;
    let reader = mesh.workload("shop/reader").by_uid().start().await;
    let other = mesh.workload("shop/other").by_uid().start().await;
    let (source, bystander) = (read(&reader, mesh.time()), read(&other, mesh.time()));
    let (leaf, innocent) = (good(&source).await, good(&bystander).await);
    let mesh = mesh.crash_ca().restart().await;
    innocent.is_soon(Verdict::Good, &bystander).await;
    revoke(&mesh, &leaf.serial).await;
    leaf.is_soon(Verdict::Revoked, &source).await;
    replaced(&leaf, &source).await;
    replaced(&innocent, &bystander).await;
}

#[tokio::test]
async fn the_lists_of_a_lost_ca_are_served_by_an_agent_that_starts_without_it() {
    let mesh = Mesh::start().await;
    let reader = mesh.workload("shop/reader").by_uid().start().await;
    let leaf = good(&read(&reader, mesh.time())).await;
    let down = mesh.crash_ca();
    reader.agent.kill().await;
    let agent = Agent::start(reader.agent_config, down.time()).await;
    let agent = agent.expect("it starts");
    let endpoint = Endpoint::Unix(agent.workload_api_socket().to_owned());
    let source = X509Source::start(endpoint, down.time());
    leaf.is_soon(Verdict::Good, &source).await;
}

#[tokio::test]
async fn clients_at_every_replica_have_the_lists_of_all() {
    let Some((_mesh, replicas)) = Replicas::start(2).await else {
        return;
    };
    let homes = [("shop/one", &replicas[0]), ("shop/other", &replicas[1])];
    let [one, other] = homes.map(|(name, replica)| replica.workload(name).by_uid().start());
    let (one, other) = (one.await, other.await);
    let (of_one, of_other) = (read(&one, Clock::system()), read(&other, Clock::system()));
    let (leaf, other_leaf) = (good(&of_one).await, good(&of_other).await);
    let issuers = [&leaf, &other_leaf].map(|leaf| std::fs::read(leaf.path("above.pem")));
    let [issuer, other_issuer] = issuers.map(|read| read.expect("it was written"));
    assert_ne!(issuer, other_issuer, "each replica signs with its own");
    for (leaf, replica) in [(&leaf, &replicas[1]), (&other_leaf, &replicas[0])] {
        let wish = theft("serial", &leaf.serial);
        let revoked = replica.admin().post("/v1/revocations", &wish);
        revoked.await.expect("it is revoked");
    }
    for source in [&of_one, &of_other] {
        leaf.is_soon(Verdict::Revoked, source).await;
        other_leaf.is_soon(Verdict::Revoked, source).await;
    }
    replaced(&leaf, &of_one).await;
}
