//! From records to leaves: the pure part of one step.
//!
//! Invariant: a step continues the tree that the last checkpoint states. Tiles that do not make its
//! root are refused, and nothing is signed on top of them.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::x509::{serial_of, validity_of};
use identity::{SerialNumber, TrustDomain};
use time::OffsetDateTime;
use tlog::entry::{Entry, EntryError, Kind};
use tlog::{Checkpoint, CheckpointError, Edge, NoteSigner, TILE_WIDTH, bundle, leaf_hash};

use crate::status::unix_millis;
use crate::store::{
    LogBundle, LogRun, LogStep, LoggedAuthority, PendingAuthority, PendingLeaves, PendingRecord,
};

/// Why no step was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowthError {
    #[error("the log's last checkpoint is not one that its key has signed")]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "the log's tiles do not make the tree of its checkpoint: the store was changed by hand"
    )]
    Tree,
    #[error("a record does not fit into an entry of the log")]
    Entry(#[from] EntryError),
    #[error("the entries do not fit into their bundle")]
    Bundle(#[from] bundle::BundleError),
}

/// The log as it is before a step.
#[derive(Debug)]
pub(super) struct Grown<'a> {
    pub(super) signer: &'a NoteSigner,
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) edge: Edge,
    /// The bundle that is not full, if there is one.
    pub(super) open: Option<LogBundle>,
}

/// A leaf to be.
struct Leaf {
    entry: Vec<u8>,
    ends: OffsetDateTime,
}

impl Grown<'_> {
    /// Refuses tiles that are not of the log's last checkpoint.
    pub(super) fn require_checkpoint(&self, note: Option<&str>) -> Result<(), GrowthError> {
        let (size, root) = (self.edge.size(), self.edge.root());
        let stated = match note {
            None => (0, tlog::empty_root()),
            Some(note) => {
                let checkpoint = Checkpoint::open(note, self.signer.verifier())?;
                (checkpoint.size(), checkpoint.root())
            }
        };
        match stated == (size, root) {
            true => Ok(()),
            false => Err(GrowthError::Tree),
        }
    }

    /// Everything pending as leaves, records first.
    pub(super) fn step(mut self, pending: &PendingLeaves) -> Result<LogStep, GrowthError> {
        let from = self.edge.size();
        let mut leaves = Vec::with_capacity(pending.records.len() + pending.authorities.len());
        for record in &pending.records {
            leaves.push(of_record(record)?);
        }
        let mut authorities = Vec::with_capacity(pending.authorities.len());
        for authority in &pending.authorities {
            let (leaf, serial) = of_authority(authority, self.trust_domain)?;
            authorities.push(LoggedAuthority {
                id: authority.id,
                leaf: from + leaves.len() as u64,
                serial,
            });
            leaves.push(leaf);
        }
        let bundles = bundles(from, self.open.take(), &leaves)?;
        let hashes = leaves.iter().map(|leaf| leaf_hash(&leaf.entry));
        let grown = self.edge.append(hashes);
        let checkpoint = Checkpoint {
            origin: self.signer.verifier().name().to_owned(),
            size: self.edge.size(),
            root: self.edge.root(),
        };
        Ok(LogStep {
            from,
            to: self.edge.size(),
            settled: pending.settled,
            checkpoint: checkpoint.sign(self.signer)?,
            tiles: grown.tiles,
            bundles,
            runs: runs(from, &pending.records),
            authorities,
        })
    }
}

fn of_record(record: &PendingRecord) -> Result<Leaf, EntryError> {
    let row = &record.row;
    let entry = Entry {
        kind: Kind::X509Svid,
        recorded_at: millis(row.issued_at),
        not_before: millis(row.not_before),
        not_after: millis(row.not_after),
        digest: row.leaf_sha256,
        serial: row.serial.as_bytes().to_vec(),
        issuer: row.issuer.clone(),
        subject: row.spiffe_id.to_string(),
        agent: (row.agent_id != row.spiffe_id).then(|| row.agent_id.to_string()),
    };
    Ok(Leaf {
        entry: entry.encode()?,
        ends: row.not_after,
    })
}

/// A certificate that cannot be read was signed all the same: its digest is logged, with the number
/// zero and without a life.
fn of_authority(
    authority: &PendingAuthority,
    trust_domain: &TrustDomain,
) -> Result<(Leaf, Option<SerialNumber>), EntryError> {
    let der = &authority.certificate;
    let serial = serial_of(der).ok();
    let octets = serial.map_or_else(|| vec![0], |serial| serial.as_bytes().to_vec());
    let (not_before, not_after) = match validity_of(der) {
        Ok(validity) => (validity.not_before(), validity.not_after()),
        Err(_) => (authority.recorded_at, authority.recorded_at),
    };
    let entry = Entry {
        kind: Kind::X509Authority,
        recorded_at: millis(authority.recorded_at),
        not_before: millis(not_before),
        not_after: millis(not_after),
        digest: Sha256::of(der),
        serial: octets,
        issuer: authority.issuer.clone(),
        subject: format!("spiffe://{trust_domain}"),
        agent: None,
    };
    let leaf = Leaf {
        entry: entry.encode()?,
        ends: not_after,
    };
    Ok((leaf, serial))
}

/// The bundles that the leaves from number `from` on are in, whole.
fn bundles(
    from: u64,
    open: Option<LogBundle>,
    leaves: &[Leaf],
) -> Result<Vec<LogBundle>, bundle::BundleError> {
    let width = u64::from(TILE_WIDTH);
    let mut bundles: BTreeMap<u64, LogBundle> = BTreeMap::new();
    bundles.extend(open.map(|open| (open.number, open)));
    for (number, leaf) in (from..).zip(leaves) {
        let number = number / width;
        let bundle = bundles.entry(number).or_insert_with(|| LogBundle {
            number,
            count: 0,
            entries: Vec::new(),
            last_end: leaf.ends,
        });
        bundle::push(&mut bundle.entries, &leaf.entry)?;
        bundle.count += 1;
        bundle.last_end = bundle.last_end.max(leaf.ends);
    }
    Ok(bundles.into_values().collect())
}

/// Which leaves the records are, the first of them being leaf `from`.
fn runs(from: u64, records: &[PendingRecord]) -> Vec<LogRun> {
    let mut runs: Vec<LogRun> = Vec::new();
    for (leaf, record) in (from..).zip(records) {
        match runs.last_mut() {
            Some(run) if run.last_sequence + 1 == record.sequence => {
                run.last_sequence = record.sequence;
            }
            _ => runs.push(LogRun {
                first_sequence: record.sequence,
                last_sequence: record.sequence,
                first_leaf: leaf,
            }),
        }
    }
    runs
}

fn millis(at: OffsetDateTime) -> u64 {
    u64::try_from(unix_millis(at)).unwrap_or_default()
}
