//! What must hold after every fault, whatever it was: one check that all chaos ends with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use http::StatusCode;
use identity::x509::{Authority, LeafSpec, X509Svid};
use identity::{SerialNumber, SpiffeId, Validity};
use runtime::Clock;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::caller::{Caller, request};
use crate::operator::{CaProcess, TRUST_DOMAIN};
use crate::raw::{Client, Verdict};
use crate::shop::ORDERS;
use crate::stranger::{Joined, Line, key_and_csr, verified};
use crate::waiting::eventually;

/// A step of the clock is noticed within a second; then one renewal of a leaf of a few seconds.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
/// Records of one answer.
const PAGE: usize = 1000;

/// What was seen before and during the fault.
#[derive(Debug, Default)]
pub struct Witness {
    roots: BTreeSet<String>,
    /// Serials of certificates that left a CA, by identity.
    got: BTreeMap<String, BTreeSet<String>>,
    /// How many keys each token admitted.
    redeemed: BTreeMap<String, usize>,
    /// Certificates that have ended.
    expired: Vec<X509Svid>,
}

impl Witness {
    /// Of a CA that is well.
    pub async fn of(ca: &CaProcess) -> Self {
        Self {
            roots: roots(ca).await,
            ..Self::default()
        }
    }

    /// A certificate has left the CA.
    pub fn got(&mut self, id: &str, serial: String) {
        let serials = self.got.entry(id.to_owned()).or_default();
        serials.insert(serial);
        assert!(serials.len() < PAGE, "more than one page of records");
    }

    pub fn count(&self) -> usize {
        self.got.values().map(BTreeSet::len).sum()
    }

    /// A token was shown with as many keys, and as many were admitted.
    pub fn redeemed(&mut self, token: &str, admitted: usize) {
        *self.redeemed.entry(token.to_owned()).or_default() += admitted;
    }

    /// Nobody may take this certificate any more.
    pub fn expired(&mut self, svid: &X509Svid) {
        self.expired.push(svid.clone());
    }

    /// The invariants: no certificate without a record, no token used twice, no lost root, no
    /// expired or foreign certificate accepted. What the fault delayed is waited for.
    ///
    /// # Panics
    /// One of them does not hold.
    pub async fn holds(&self, ca: &CaProcess) {
        for (id, got) in &self.got {
            eventually(
                "every certificate that left the CA is on record",
                || async {
                    let recorded = recorded(ca, id).await?;
                    got.is_subset(&recorded).then_some(())
                },
            )
            .await;
        }
        for (token, admitted) in &self.redeemed {
            assert!(*admitted <= 1, "token {token} admitted {admitted} keys");
        }
        let roots = roots(ca).await;
        assert!(self.roots.is_subset(&roots), "a root was lost");
        refused(ca.agents_address(), foreign()).await;
        for svid in &self.expired {
            // The last second counts (RFC 5280 section 4.1.2.5).
            let over = svid.svid().validity().not_after() + Duration::from_secs(1);
            Clock::system().sleep_until(over).await;
            let chain = svid.svid().chain().to_vec();
            refused(ca.agents_address(), (chain, svid.key().clone())).await;
        }
    }
}

/// One certificate for `id`, unless the CA refuses or is gone: its serial is noted.
pub async fn renew(line: &Line, agent: &Joined, id: &str) -> Option<String> {
    use proto::agent::v1::issue_result::Result as Issued;
    let (key, csr) = key_and_csr();
    match line.issue(id, csr).await.ok()?.result? {
        Issued::Svid(svid) => {
            let svid = verified(svid, key, &agent.bundles, &Clock::system());
            Some(svid.svid().serial().to_string())
        }
        Issued::Refusal(_) => None,
    }
}

async fn roots(ca: &CaProcess) -> BTreeSet<String> {
    let bundle = eventually("the bundle is served", || async {
        ca.admin().get("/v1/bundle").await.ok()
    })
    .await;
    let keys = bundle["keys"].as_array().expect("a list").iter();
    let roots = keys.map(|key| key["x5c"][0].as_str().expect("a certificate").to_owned());
    roots.collect()
}

async fn recorded(ca: &CaProcess, id: &str) -> Option<BTreeSet<String>> {
    let path = format!("/v1/svids?spiffeId={id}&limit={PAGE}");
    let answer: Value = ca.admin().get(&path).await.ok()?;
    let items = answer["items"].as_array().expect("a list");
    let serials = items.iter().filter_map(|item| item["serial"].as_str());
    Some(serials.map(str::to_owned).collect())
}

async fn refused(listener: SocketAddr, (chain, key): (Vec<CertificateDer<'static>>, SigningKey)) {
    let client = Client {
        chain,
        key: Some(&key),
        version: &TLS13,
    };
    let verdict = client.try_on(listener).await;
    assert_ne!(
        verdict,
        Verdict::Admitted,
        "a foreign or expired certificate"
    );
}

/// An agent of a root that calls itself as the mesh does.
fn foreign() -> (Vec<CertificateDer<'static>>, SigningKey) {
    let now = Clock::system().now();
    let hour = Duration::from_secs(60 * 60);
    let validity = Validity::try_new(now - hour, now + hour).expect("in order");
    let serial = || SerialNumber::random(&mut SystemRandom);
    let (root_key, key, leaf_key) = (
        SigningKey::generate(),
        SigningKey::generate(),
        SigningKey::generate(),
    );
    let domain = TRUST_DOMAIN.parse().expect("a literal trust domain");
    let root = Authority::new_root(&domain, &root_key, validity, serial());
    let root = root.expect("a root");
    let intermediate = root.sign_intermediate("ca-1", key.public_key(), validity, serial());
    let intermediate = intermediate.expect("an intermediate");
    let authority = Authority::load(intermediate.clone(), key).expect("its key");
    let spiffe_id: SpiffeId = format!("spiffe://{TRUST_DOMAIN}/countersign/agent/join-token/web-7")
        .parse()
        .expect("an agent's ID");
    let leaf = authority.issue(&LeafSpec {
        spiffe_id,
        public_key: *leaf_key.public_key(),
        validity,
        serial: serial(),
        dns_names: Vec::new(),
    });
    let leaf = leaf.expect("a leaf").certificate;
    (vec![leaf, intermediate], leaf_key)
}

/// Calls of `shop/checkout` to `shop/orders`, one after another until the handle is dropped.
#[derive(Debug)]
pub struct Calls {
    told: watch::Receiver<Told>,
    _task: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    passed: usize,
    failed: usize,
    /// The longest time from the first failure in a row to the next call that passed.
    longest: Duration,
}

impl Calls {
    pub fn through(outbound: SocketAddr) -> Self {
        let (tell, told) = watch::channel(Told::default());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut since: Option<Instant> = None;
            loop {
                let began = Instant::now();
                let passed = call(outbound).await;
                if !passed {
                    since.get_or_insert(began);
                }
                let failing = since.map_or(Duration::ZERO, |since| since.elapsed());
                tell.send_modify(|told| {
                    told.passed += usize::from(passed);
                    told.failed += usize::from(!passed);
                    told.longest = told.longest.max(failing);
                });
                if passed {
                    since = None;
                } else {
                    // A proxy that is being started again.
                    let listens = || async { TcpStream::connect(outbound).await.ok() };
                    eventually("the proxy listens", listens).await;
                }
            }
        });
        Self { told, _task: task }
    }

    /// Returns when another call has passed.
    pub async fn pass(&self) {
        let before = self.told.borrow().passed;
        eventually("a call passes", || async {
            (self.told.borrow().passed > before + 1).then_some(())
        })
        .await;
    }

    /// As [`Calls::pass`], after a clock was set right: within one renewal, not at the end of
    /// whatever pause the wrong clock has led to.
    ///
    /// # Panics
    /// No call passes.
    pub async fn pass_by_the_new_clock(&self) {
        let mut told = self.told.clone();
        let before = told.borrow().passed;
        let passed = told.wait_for(|told| told.passed > before + 1);
        let passed = timeout(NOTICED_WITHIN, passed).await;
        drop(passed.expect("a call passes").expect("calls go on"));
    }

    /// Returns when so many more calls have passed.
    pub async fn more(&self, count: usize) {
        let before = self.told.borrow().passed;
        eventually("calls go on", || async {
            (self.told.borrow().passed >= before + count).then_some(())
        })
        .await;
    }

    /// Returns when another call has failed.
    pub async fn fail(&self) {
        let before = self.told.borrow().failed;
        eventually("a call fails", || async {
            (self.told.borrow().failed > before).then_some(())
        })
        .await;
    }

    /// # Panics
    /// Calls failed for longer, or never began.
    pub fn never_failed_longer_than(&self, bound: Duration) {
        let told = *self.told.borrow();
        assert!(told.passed > 0 && told.longest <= bound, "{told:?}");
    }
}

async fn call(outbound: SocketAddr) -> bool {
    let Ok(socket) = TcpStream::connect(outbound).await else {
        return false;
    };
    let mut caller = Caller::over_http1(socket).await;
    let get = request(http::Method::GET, &format!("{ORDERS}/v1/orders"));
    let answer = caller.try_start(get).await;
    answer.is_some_and(|answer| answer.status() == StatusCode::OK)
}
