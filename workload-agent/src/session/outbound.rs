//! What was said to the CA on this stream, so that only changes are said.

use std::collections::{BTreeMap, BTreeSet};

use policy::Revision;
use proto::agent::v1::{self as wire, agent_message::Message};
use proto::mesh::v1 as mesh;

use crate::feed::Attendance;
use crate::view::wire_revision;

/// A CA takes no more in one message.
const SIGHTINGS: usize = 256;

/// The last of each kind; a new stream starts from nothing.
#[derive(Debug)]
pub(super) struct Said {
    acknowledged: Option<Revision>,
    /// `None` while the CA may assume others than these.
    subscriptions: Option<Vec<String>>,
    /// What a CA that does not read the first ones assumes.
    assumed: Option<Vec<String>>,
    /// The number of those said last; none is said before there are any.
    announced: u64,
    /// Whether the CA takes the list of proxies.
    tells_proxies: bool,
    proxies: Option<Vec<wire::AttachedProxy>>,
    reports: BTreeMap<String, mesh::ProxyStatus>,
    /// Whether the CA takes what proxies have seen.
    tells_sightings: bool,
    sighted: BTreeSet<Vec<u8>>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            acknowledged: None,
            subscriptions: Some(Vec::new()),
            assumed: Some(Vec::new()),
            announced: 0,
            tells_proxies: false,
            proxies: None,
            reports: BTreeMap::new(),
            tells_sightings: false,
            sighted: BTreeSet::new(),
        }
    }
}

impl Said {
    /// A `Hello` with these subscriptions. With what was held, a CA that does not read them takes
    /// that for asked for.
    pub(super) fn hello(subscriptions: Vec<String>, resuming: bool) -> Self {
        Self {
            subscriptions: Some(subscriptions),
            assumed: (!resuming).then(Vec::new),
            ..Self::default()
        }
    }

    /// The CA has said what it speaks.
    pub(super) fn greeted_by(&mut self, version: mesh::ProtocolVersion) {
        if !version.reads_first_subscriptions() {
            self.subscriptions.clone_from(&self.assumed);
        }
        self.tells_proxies = version.takes_proxies();
        self.tells_sightings = version.takes_sightings();
    }

    pub(super) fn proxies(&mut self, attendance: &Attendance) -> Option<Message> {
        let proxies = Some(attendance.attached());
        if !self.tells_proxies || proxies == self.proxies {
            return None;
        }
        self.proxies.clone_from(&proxies);
        proxies.map(|proxies| Message::Proxies(wire::Proxies { proxies }))
    }

    /// Never one that is behind what was said before, unless the epoch changed.
    pub(super) fn acknowledgement(&mut self, revision: Option<Revision>) -> Option<Message> {
        let revision = revision?;
        let old = self
            .acknowledged
            .is_some_and(|said| said.epoch == revision.epoch && said.number >= revision.number);
        if old {
            return None;
        }
        self.acknowledged = Some(revision);
        Some(Message::Acknowledge(wire::Acknowledge {
            revision: Some(wire_revision(revision)),
        }))
    }

    pub(super) fn subscriptions(&mut self, attendance: &Attendance) -> Option<Message> {
        let services = attendance.subscriptions();
        if self.subscriptions.as_ref() == Some(&services) {
            return None;
        }
        self.subscriptions = Some(services.clone());
        Some(Message::Subscriptions(wire::Subscriptions { services }))
    }

    pub(super) fn announcements(&mut self, attendance: &Attendance) -> Option<Message> {
        let announcements = attendance.announcements();
        if announcements.sequence == self.announced {
            return None;
        }
        self.announced = announcements.sequence;
        Some(Message::Announcements(announcements))
    }

    pub(super) fn reports(&mut self, attendance: &Attendance) -> Vec<Message> {
        let reports = attendance.reports();
        let changed = reports
            .iter()
            .filter(|(workload, status)| self.reports.get(*workload) != Some(status))
            .map(|(workload, status)| {
                Message::Report(wire::ProxyReport {
                    workload: workload.clone(),
                    status: Some(status.clone()),
                })
            })
            .collect();
        self.reports = reports;
        changed
    }

    /// Those that this stream has not told of.
    pub(super) fn sightings(&mut self, attendance: &Attendance) -> Vec<Message> {
        if !self.tells_sightings {
            return Vec::new();
        }
        let known = attendance.sightings();
        let new = known.by_digest();
        let new: Vec<_> = new
            .filter(|(digest, _)| !self.sighted.contains(*digest))
            .map(|(_, sighting)| sighting.clone())
            .collect();
        if new.is_empty() {
            return Vec::new();
        }
        self.sighted = known
            .by_digest()
            .map(|(digest, _)| digest.clone())
            .collect();
        new.chunks(SIGHTINGS)
            .map(|some| {
                Message::Sightings(wire::Sightings {
                    sightings: some.to_vec(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(epoch: u64, number: u64) -> Option<Revision> {
        Some(Revision { epoch, number })
    }

    #[test]
    fn acknowledgement_never_goes_back_within_an_epoch() {
        let mut said = Said::default();
        assert!(said.acknowledgement(revision(1, 5)).is_some());
        assert!(said.acknowledgement(revision(1, 4)).is_none());
        assert!(said.acknowledgement(revision(1, 5)).is_none());
        assert!(said.acknowledgement(revision(2, 1)).is_some());
    }

    const OLDER: mesh::ProtocolVersion = mesh::ProtocolVersion { major: 1, minor: 1 };
    const NEWER: mesh::ProtocolVersion = mesh::ProtocolVersion { major: 1, minor: 2 };

    #[test]
    fn who_resumes_says_to_an_older_ca_even_that_nothing_is_asked_for() {
        let mut said = Said::hello(Vec::new(), true);
        said.greeted_by(OLDER);
        let attendance = Attendance::default();
        assert!(said.subscriptions(&attendance).is_some());
        assert!(said.subscriptions(&attendance).is_none());
    }

    #[test]
    fn what_the_first_word_said_is_not_said_again_but_to_an_older_ca() {
        let wanted = [("orders.shop".to_owned(), time::OffsetDateTime::UNIX_EPOCH)];
        let attendance = crate::feed::Roster::new(wanted.into()).attendance();
        let mut said = Said::hello(attendance.subscriptions(), false);
        said.greeted_by(NEWER);
        assert!(said.subscriptions(&attendance).is_none());
        said.greeted_by(OLDER);
        assert!(said.subscriptions(&attendance).is_some());
    }

    #[test]
    fn an_older_ca_is_not_told_of_proxies_and_a_newer_one_once() {
        let attendance = Attendance::default();
        let mut said = Said::default();
        said.greeted_by(OLDER);
        assert!(said.proxies(&attendance).is_none());
        said.greeted_by(NEWER);
        assert!(said.proxies(&attendance).is_some());
        assert!(said.proxies(&attendance).is_none());
    }

    #[test]
    fn a_sighting_is_told_once_and_to_no_older_ca() {
        let roster = crate::feed::Roster::new(BTreeMap::new());
        let hello = mesh::Subscribe::default();
        let seat = roster.enter(&"shop/orders".parse().unwrap(), None, &hello);
        let leaf = mesh::SeenLeaf::default();
        let seat = seat.unwrap();
        seat.saw(vec![leaf], time::OffsetDateTime::UNIX_EPOCH);
        let attendance = roster.attendance();
        let mut said = Said::default();
        said.greeted_by(NEWER);
        assert!(said.sightings(&attendance).is_empty());
        said.greeted_by(mesh::PROTOCOL);
        assert_eq!(said.sightings(&attendance).len(), 1);
        assert!(said.sightings(&attendance).is_empty());
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let mut said = Said::default();
        let attendance = Attendance::default();
        assert!(said.subscriptions(&attendance).is_none());
        assert!(said.announcements(&attendance).is_none());
        assert!(said.reports(&attendance).is_empty());
    }
}
