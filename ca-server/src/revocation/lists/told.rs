//! The lists as agents are told of them.

use crypto::digest::Sha256;
use proto::agent::v1 as wire;

use crate::store::CrlRow;

/// Immutable: those of every replica and root.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ToldLists {
    lists: Vec<CrlRow>,
    superseded: Vec<Sha256>,
}

impl ToldLists {
    pub(super) fn new(lists: Vec<CrlRow>, superseded: Vec<Sha256>) -> Self {
        Self { lists, superseded }
    }

    /// Before the first was signed.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    pub(crate) fn wire(&self) -> wire::RevocationLists {
        let superseded = self.superseded.iter();
        wire::RevocationLists {
            crls: self.lists.iter().map(|list| list.der.clone()).collect(),
            superseded: superseded.map(|key| key.as_bytes().to_vec()).collect(),
        }
    }
}
