//! Intermediates whose keys are gone, with a replica or with its last process: nobody can list what
//! is revoked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use time::OffsetDateTime;

use super::{LOOK_EVERY, RevocationLists};
use crate::store::{CrlRow, IntermediateRow, StoreError};

/// One is recorded before anybody signs with it, this replica's own too.
const JUST_MADE: Duration = Duration::from_secs(5);

impl RevocationLists {
    /// Marks those whose lists lack something by now, or are about to end too soon. Of its own former
    /// ones each replica knows at once; who leads finds those of replicas that are gone.
    pub(super) async fn supersede_lost(
        &self,
        leads: bool,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut lost = self.store.intermediates(now).await?;
        lost.retain(|row| !row.is_superseded && !self.signers.contains_key(&row.key_id));
        lost.retain(|row| leads || row.replica == self.replica);
        let just_made = self.lifetimes.back_date + JUST_MADE;
        lost.retain(|row| row.not_before + just_made <= now);
        if lost.is_empty() {
            return Ok(());
        }
        let live = self.store.live_replicas(now).await?;
        lost.retain(|row| is_lost(row, &self.replica, &live));
        let lists = self.store.crls(now).await?;
        let lists: BTreeMap<_, _> = lists.iter().map(|row| (&*row.issuer, row)).collect();
        for row in lost {
            let list = lists.get(&*row.key_id).copied();
            if ends_too_soon(list, &row, now) || self.lacks_something(list, &row, now).await? {
                tracing::warn!(
                    key_id = row.key_id,
                    replica = row.replica,
                    "the key of an intermediate is gone, and with it who lists what is revoked of \
                     it; its leaves are replaced"
                );
                self.store.supersede_intermediate(&row.key_id, now).await?;
            }
        }
        Ok(())
    }

    async fn lacks_something(
        &self,
        list: Option<&CrlRow>,
        row: &IntermediateRow,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let covers = list.map_or(0, |list| list.covers);
        if self.store.newest_revocation().await? <= covers {
            return Ok(false);
        }
        let revoked = self.store.revoked_leaves_of(&row.key_id, now).await?;
        Ok(revoked.iter().any(|leaf| leaf.revision > covers))
    }
}

/// A replica that lives has the keys of its intermediates, but for those of its last process.
fn is_lost(row: &IntermediateRow, own: &str, live: &BTreeSet<String>) -> bool {
    row.replica == own || !live.contains(&row.replica)
}

/// A validator that demands a list would refuse good leaves.
fn ends_too_soon(list: Option<&CrlRow>, row: &IntermediateRow, now: OffsetDateTime) -> bool {
    list.is_none_or(|list| {
        list.next_update < row.not_after && list.next_update <= now + LOOK_EVERY * 12
    })
}
