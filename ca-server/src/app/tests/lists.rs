//! Claims about the revocation lists that agents of a running replica are told of.

use std::time::Duration;

use identity::SerialNumber;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::agent::TestAgent;
use super::harness::TestCa;
use super::watching::Stream;
use crate::store::{RevocationSubject, StorePlace};

impl TestAgent {
    fn serial(&self) -> SerialNumber {
        let (_, leaf) = X509Certificate::from_der(&self.chain[0]).unwrap();
        SerialNumber::from_bytes(leaf.raw_serial()).unwrap()
    }

    /// As the lists of the intermediate name it.
    fn issuer(&self) -> Vec<u8> {
        let (_, intermediate) = X509Certificate::from_der(&self.chain[1]).unwrap();
        intermediate.subject().as_raw().to_vec()
    }

    /// As the lists of the root name its intermediate.
    fn intermediate(&self) -> (Vec<u8>, SerialNumber) {
        let (_, intermediate) = X509Certificate::from_der(&self.chain[1]).unwrap();
        let serial = SerialNumber::from_bytes(intermediate.raw_serial());
        (intermediate.issuer().as_raw().to_vec(), serial.unwrap())
    }
}

impl Stream {
    /// Waits for lists of which one, by this issuer, names this serial, or for the first that does
    /// not.
    async fn listed(&mut self, issuer: &[u8], serial: SerialNumber, wanted: bool) {
        loop {
            let lists = self.lists().await;
            let named = lists.crls.iter().find_map(|der| names(der, issuer, serial));
            if named == Some(wanted) {
                return;
            }
        }
    }

    /// When the list of this issuer ends, once that is later.
    async fn end_above(&mut self, issuer: &[u8], known: i64) -> i64 {
        loop {
            let lists = self.lists().await;
            let mut ends = lists.crls.iter().filter_map(|der| end(der, issuer));
            if let Some(end) = ends.find(|end| *end > known) {
                return end;
            }
        }
    }
}

/// `None`: another authority's.
fn end(der: &[u8], issuer: &[u8]) -> Option<i64> {
    let (_, list) = CertificateRevocationList::from_der(der).unwrap();
    let end = list.next_update().unwrap().timestamp();
    (list.issuer().as_raw() == issuer).then_some(end)
}

/// `None`: another authority's.
fn names(der: &[u8], issuer: &[u8], serial: SerialNumber) -> Option<bool> {
    let (_, list) = CertificateRevocationList::from_der(der).unwrap();
    let mut revoked = list.iter_revoked_certificates();
    let named = revoked.any(|it| SerialNumber::from_bytes(it.raw_serial()) == Ok(serial));
    (list.issuer().as_raw() == issuer).then_some(named)
}

#[tokio::test]
async fn an_agent_is_told_of_empty_lists_and_then_of_what_is_revoked() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let mut stream = ca.watch(&agent, None).await;
    stream.listed(&agent.issuer(), agent.serial(), false).await;
    let other = ca.agent("web-8").await;
    ca.revoke(RevocationSubject::Serial(other.serial())).await;
    stream.listed(&agent.issuer(), other.serial(), true).await;
}

#[tokio::test]
async fn lists_are_renewed_before_they_end() {
    let ca = TestCa::start().await;
    let agent = ca.agent("web-7").await;
    let issuer = agent.issuer();
    let mut stream = ca.watch(&agent, None).await;
    let first = stream.end_above(&issuer, 0).await;
    ca.control.advance(Duration::from_secs(59 * 60));
    let mut stream = ca.watch(&ca.renew(&agent, "web-7").await, None).await;
    ca.control.advance(Duration::from_secs(2 * 60));
    let next = stream.end_above(&issuer, first).await;
    assert!(first > ca.clock.now().unix_timestamp(), "{first} {next}");
}

#[tokio::test]
async fn the_intermediate_of_a_replica_that_is_gone_is_listed_by_the_root_and_superseded() {
    let Some(server) = crate::store::tests::fresh_database() else {
        return;
    };
    let place = StorePlace::Postgres(server);
    let one = TestCa::start_with(|config| config.store = place.clone()).await;
    let other = TestCa::start_with(|config| {
        config.store = place;
        config.replica = "ca-2".parse().unwrap();
        config.keys = one.config.keys.clone();
    });
    let other = other.await;
    let victim = other.agent("web-8").await;
    let (root, intermediate) = victim.intermediate();
    let mut stream = one.watch(&one.agent("web-7").await, None).await;
    stream.listed(&root, intermediate, false).await;
    other.ca.drain(Duration::from_secs(10)).await.unwrap();
    one.revoke(RevocationSubject::Serial(victim.serial())).await;
    stream.listed(&root, intermediate, true).await;
    let superseded = one.ca.store.intermediates(one.clock.now()).await.unwrap();
    let superseded = superseded.iter().filter(|it| it.is_superseded);
    let replicas: Vec<_> = superseded.map(|it| it.replica.as_str()).collect();
    assert_eq!(replicas, ["ca-2"]);
}
