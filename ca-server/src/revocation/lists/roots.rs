//! The lists of the roots, or of the upstream's authorities below them: which intermediates are not
//! to be trusted any more. A root is opened only when its list changes or nears its end.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::signed::{Signed, number};
use super::spec;
use crate::authority::lifecycle::Generation;
use crate::authority::{PublishedRoots, RootError, RootKeeper};
use crate::store::{CrlRow, RevokedRow, Store, StoreError};

/// A root that could not sign a list is asked again after so long.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct RootLists {
    keeper: RootKeeper,
    of: BTreeMap<Generation, RootList>,
}

#[derive(Debug, Default)]
struct RootList {
    signed: Signed<Content>,
    refused: Option<Refused>,
}

#[derive(Debug, PartialEq, Eq)]
struct Content {
    revoked: Vec<RevokedRow>,
    /// Who is asked for a list by validators; a successor below the same root has none at first.
    issuers: Vec<String>,
}

#[derive(Debug)]
struct Refused {
    until: OffsetDateTime,
    why: String,
}

impl RootLists {
    pub(super) fn new(keeper: RootKeeper) -> Self {
        Self {
            keeper,
            of: BTreeMap::new(),
        }
    }

    /// Of every root that is trusted.
    pub(super) async fn sign(
        &mut self,
        store: &Store,
        roots: &PublishedRoots,
        (back_date, life): (Duration, Duration),
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let trusted: Vec<_> = roots.trusted().collect();
        self.of
            .retain(|generation, _| trusted.iter().any(|(trusted, _)| trusted == generation));
        for (generation, certificate) in trusted {
            // In the name of a root that comes from above nobody signs at first, and nothing is to be
            // listed.
            if let Ok(false) = self.keeper.can_sign(generation, now).await {
                continue;
            }
            let list = self.of.entry(generation).or_default();
            // Read first: what is revoked meanwhile is not said to be covered.
            let covers = store.newest_revocation().await?;
            let root = generation.number();
            let content = Content {
                revoked: store.revoked_intermediates_of(root, now).await?,
                issuers: store.issuers_of_intermediates(root, now).await?,
            };
            if !list.is_due(&content, now) {
                continue;
            }
            // Another replica may have signed the last.
            let last = store.crls(now).await?.iter().map(|row| row.number).max();
            let number = number(now, last.unwrap_or(0)).max(list.signed.number(now));
            let spec = spec(&content.revoked, (now - back_date, now + life), number);
            match self.keeper.sign_crl(generation, spec, now).await {
                Ok(crl) => {
                    let row = CrlRow {
                        issuer: crl.issuer,
                        number,
                        covers,
                        next_update: crl.next_update,
                        der: crl.der,
                    };
                    store.put_crl(&row).await?;
                    let lives = (now, crl.next_update, certificate.validity().not_after());
                    list.signed = Signed::of(content, number, lives);
                    list.refused = None;
                }
                Err(error) => list.refuse(generation, &error, now),
            }
        }
        Ok(())
    }
}

impl RootList {
    fn is_due(&self, content: &Content, now: OffsetDateTime) -> bool {
        let waits = self.refused.as_ref().is_some_and(|it| it.until > now);
        !waits && self.signed.is_due(|known| known == content, now)
    }

    /// Said once, and again when the reason is another.
    fn refuse(&mut self, generation: Generation, error: &RootError, now: OffsetDateTime) {
        let why = runtime::exit::one_line(error);
        if self.refused.as_ref().is_none_or(|known| known.why != why) {
            tracing::warn!(
                root = %generation,
                error = why,
                "what stands above the intermediates signs no revocation list; validators that go \
                 by lists cannot be told that an intermediate is lost or stolen"
            );
        }
        self.refused = Some(Refused {
            until: now + AGAIN,
            why,
        });
    }
}
