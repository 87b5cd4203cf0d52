//! Whom a client expects to reach. There is no "anyone": a client that does not know who should
//! answer does not connect.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use identity::{SpiffeId, TrustDomain, is_ca_id};

/// The identities that a server may show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// One of these; none at all when the set is empty.
    AnyOf(Arc<BTreeSet<SpiffeId>>),
    /// A CA replica of our own trust domain: `spiffe://<td>/countersign/ca/<replica>`. Every
    /// workload's certificate chains to the same root, so the chain alone proves no CA.
    CaReplica,
}

impl Expected {
    /// Exactly `id`.
    #[must_use]
    pub fn exactly(id: SpiffeId) -> Self {
        Self::AnyOf(Arc::new(BTreeSet::from([id])))
    }

    pub(crate) fn admits(&self, id: &SpiffeId, own: &TrustDomain) -> bool {
        match self {
            Self::AnyOf(ids) => ids.contains(id),
            Self::CaReplica => is_ca_id(id, own),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let ids = match self {
            Self::CaReplica => return f.write_str("a CA replica of our trust domain"),
            Self::AnyOf(ids) if ids.is_empty() => return f.write_str("nobody"),
            Self::AnyOf(ids) => ids,
        };
        for (place, id) in ids.iter().take(SHOWN).enumerate() {
            write!(f, "{}{id}", if place == 0 { "" } else { " or " })?;
        }
        match ids.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " or {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Expected {
        let id = |name| format!("spiffe://mesh.test/{name}").parse().unwrap();
        Expected::AnyOf(Arc::new(names.iter().map(id).collect()))
    }

    #[track_caller]
    fn shows(expected: &Expected, text: &str) {
        assert_eq!(expected.to_string(), text);
    }

    #[test]
    fn an_empty_set_admits_nobody() {
        let own: TrustDomain = "mesh.test".parse().unwrap();
        let id = "spiffe://mesh.test/a".parse().unwrap();
        assert!(!ids(&[]).admits(&id, &own));
        shows(&ids(&[]), "nobody");
    }

    #[test]
    fn a_replica_of_another_trust_domain_is_no_ca_of_ours() {
        let own: TrustDomain = "mesh.test".parse().unwrap();
        let foreign = "spiffe://other.test/countersign/ca/ca-1".parse().unwrap();
        assert!(!Expected::CaReplica.admits(&foreign, &own));
    }

    #[test]
    fn a_long_set_is_shown_short() {
        shows(
            &ids(&["a", "b"]),
            "spiffe://mesh.test/a or spiffe://mesh.test/b",
        );
        shows(
            &ids(&["a", "b", "c", "d", "e"]),
            "spiffe://mesh.test/a or spiffe://mesh.test/b or spiffe://mesh.test/c or 2 more",
        );
    }
}
