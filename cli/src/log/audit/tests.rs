//! Claims over a log in memory, which can lie.

use std::cell::RefCell;
use std::convert::Infallible;

use crypto::ed25519::Ed25519Key;
use proptest::prelude::*;
use tlog::NoteSigner;
use tlog::entry::Kind;

use super::*;

/// Serves what its entries make, unless a file was replaced.
struct Shown {
    signer: NoteSigner,
    entries: Vec<Vec<u8>>,
    replaced: RefCell<BTreeMap<String, Option<Vec<u8>>>>,
}

fn signer(seed: u8) -> NoteSigner {
    NoteSigner::try_new("log", Ed25519Key::from_seed([seed; 32])).unwrap()
}

fn entry(index: u64) -> Entry {
    Entry {
        kind: Kind::X509Svid,
        recorded_at: index,
        not_before: 0,
        not_after: 0,
        digest: Sha256::of(&index.to_be_bytes()),
        serial: SerialNumber::from_bytes(&(index + 1).to_be_bytes())
            .unwrap()
            .as_bytes()
            .to_vec(),
        issuer: "issuer".to_owned(),
        subject: "spiffe://td.test/ns/a/sa/b".to_owned(),
        agent: None,
    }
}

fn serial(index: u64) -> SerialNumber {
    SerialNumber::from_bytes(&entry(index).serial).unwrap()
}

impl Shown {
    fn of(indices: impl IntoIterator<Item = u64>) -> Self {
        Self {
            signer: signer(7),
            entries: indices
                .into_iter()
                .map(|index| entry(index).encode().unwrap())
                .collect(),
            replaced: RefCell::default(),
        }
    }

    fn replacing(self, path: &str, bytes: Option<Vec<u8>>) -> Self {
        self.replaced.borrow_mut().insert(path.to_owned(), bytes);
        self
    }

    fn note(&self) -> String {
        let mut edge = Edge::default();
        edge.append(self.entries.iter().map(|entry| leaf_hash(entry)));
        let checkpoint = Checkpoint {
            origin: "log".to_owned(),
            size: edge.size(),
            root: edge.root(),
        };
        checkpoint.sign(&self.signer).unwrap()
    }

    fn seen(&self) -> VerifiedCheckpoint {
        Checkpoint::open(&self.note(), self.signer.verifier()).unwrap()
    }

    async fn verify(
        &self,
        last: Option<VerifiedCheckpoint>,
        wanted: Option<Wanted>,
    ) -> Result<Verdict, Broken<Infallible>> {
        let signer = signer(7);
        let audit = Audit {
            source: self,
            key: signer.verifier(),
            last,
            all: false,
        };
        audit.run(wanted).await
    }
}

impl Source for Shown {
    type Error = Infallible;

    async fn checkpoint(&self) -> Result<String, Infallible> {
        Ok(self.note())
    }

    async fn tile(&self, tile: TilePath) -> Result<Option<Vec<u8>>, Infallible> {
        if let Some(bytes) = self.replaced.borrow().get(&tile.to_string()) {
            return Ok(bytes.clone());
        }
        if tile.content() == Content::Entries {
            let first = tile.number() as usize * 256;
            let mut bytes = Vec::new();
            for entry in &self.entries[first..first + usize::from(tile.width())] {
                bundle::push(&mut bytes, entry).unwrap();
            }
            return Ok(Some(bytes));
        }
        let mut tiles = Tiles::default();
        let leaves = self.entries.iter().map(|entry| leaf_hash(entry));
        for grown in Edge::default().append(leaves).tiles {
            tiles.put(grown.level, grown.number, grown.hashes).unwrap();
        }
        let hashes = tiles.hashes(tile).unwrap().iter();
        Ok(Some(hashes.flat_map(|hash| *hash.as_bytes()).collect()))
    }

    async fn leaf_of(&self, wanted: SerialNumber) -> Result<Option<u64>, Infallible> {
        let decoded = self
            .entries
            .iter()
            .map(|entry| Entry::decode(entry).unwrap());
        let place = decoded
            .map(|entry| entry.serial)
            .position(|it| it == wanted.as_bytes());
        Ok(place.map(|place| place as u64))
    }
}

#[tokio::test]
async fn a_checkpoint_that_the_pinned_key_did_not_sign_is_not_believed() {
    let mut log = Shown::of(0..3);
    log.signer = signer(8);
    let broken = log.verify(None, None).await.unwrap_err();
    assert!(matches!(
        broken,
        Broken::Checkpoint(CheckpointError::Note(_))
    ));
}

#[tokio::test]
async fn a_log_that_lost_leaves_is_a_rollback() {
    let seen = Shown::of(0..5).seen();
    let broken = Shown::of(0..4).verify(Some(seen), None).await.unwrap_err();
    assert!(matches!(broken, Broken::Rollback { last: 5, size: 4 }));
}

#[tokio::test]
async fn a_log_with_another_past_is_a_fork() {
    for size in [5, 9] {
        let seen = Shown::of(0..5).seen();
        let other = Shown::of((0..4).chain(7..3 + size));
        let broken = other.verify(Some(seen), None).await.unwrap_err();
        assert!(matches!(broken, Broken::Fork { last: 5, .. }), "{broken:?}");
    }
}

#[tokio::test]
async fn a_leaf_that_the_signed_tree_does_not_have_is_found() {
    let log = Shown::of(0..3).replacing("tile/0/000.p/3", Some(vec![0; 96]));
    let broken = log.verify(None, None).await.unwrap_err();
    assert!(matches!(broken, Broken::Entry(0)));
}

#[tokio::test]
async fn an_entry_that_is_not_its_leaf_is_found() {
    let mut bytes = Vec::new();
    for index in [0, 7, 2] {
        bundle::push(&mut bytes, &entry(index).encode().unwrap()).unwrap();
    }
    let log = Shown::of(0..3).replacing("tile/entries/000.p/3", Some(bytes));
    let broken = log.verify(None, None).await.unwrap_err();
    assert!(matches!(broken, Broken::Entry(1)));
}

#[tokio::test]
async fn tiles_without_entries_that_make_another_tree_are_found() {
    let log = Shown::of(0..3)
        .replacing("tile/0/000.p/3", Some(vec![0; 96]))
        .replacing("tile/entries/000.p/3", None);
    assert!(matches!(
        log.verify(None, None).await.unwrap_err(),
        Broken::Tree
    ));
}

#[tokio::test]
async fn an_upper_tile_that_is_not_made_of_lower_ones_is_found() {
    let log = Shown::of(0..300).replacing("tile/1/000.p/1", Some(vec![0; 32]));
    let broken = log.verify(None, None).await.unwrap_err();
    assert!(matches!(broken, Broken::Tile(_)));
}

#[tokio::test]
async fn a_certificate_that_is_not_logged_is_told() {
    let log = Shown::of(0..3);
    let wanted = Wanted::of_serial(serial(3));
    let broken = log.verify(None, Some(wanted)).await.unwrap_err();
    assert!(matches!(broken, Broken::Absent(_)));
}

#[tokio::test]
async fn another_certificate_with_the_same_serial_number_is_told() {
    let wanted = Wanted {
        serial: serial(1),
        digest: Some(Sha256::of(b"forged")),
    };
    let broken = Shown::of(0..3)
        .verify(None, Some(wanted))
        .await
        .unwrap_err();
    assert!(matches!(broken, Broken::Other { leaf: 1, .. }));
}

#[tokio::test]
async fn a_certificate_in_the_log_is_its_leaf() {
    let log = Shown::of(0..300);
    let wanted = Wanted {
        serial: serial(257),
        digest: Some(entry(257).digest),
    };
    let verdict = log.verify(None, Some(wanted)).await.unwrap();
    assert_eq!(verdict.included.unwrap().leaf, 257);
    assert_eq!((verdict.verified, verdict.pruned), (300, 0));
}

#[tokio::test]
async fn entries_that_were_pruned_are_counted() {
    let log = Shown::of(0..300).replacing("tile/entries/000", None);
    assert_eq!(log.verify(None, None).await.unwrap().pruned, 256);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_log_that_only_grew_is_whole(last in 0_u64..600, more in 0_u64..600) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = Shown::of(0..last).seen();
        let verdict = runtime.block_on(Shown::of(0..last + more).verify(Some(seen), None));
        prop_assert_eq!(verdict.unwrap().verified, more);
    }
}
