//! The proxies on the feed, and what follows from all of them together: the revision that counts
//! as applied, the services wanted, the addresses announced.
//!
//! Invariants: one proxy serves a workload, two while one takes over; a proxy that is silent too
//! long does not hold up acknowledgements; a service stays wanted for an hour after the last proxy
//! that asked for it has gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use identity::QualifiedName;
use policy::Revision;
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::sightings::Sightings;

/// How long a service stays subscribed after its last asker.
const IDLE: Duration = Duration::from_secs(3600);
const DURING_TAKEOVER: usize = 2;
/// Bounds what one host's workloads can make the CA track.
const MOST_SERVICES: usize = 4096;

/// The shared roster. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    attendance: watch::Sender<Attendance>,
    publication: watch::Sender<Publication>,
}

/// How far the CA has told callers what is announced here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Publication {
    /// There is no CA to tell, or one that does not say.
    Untold,
    /// Up to the announcements with this number.
    UpTo(u64),
}

/// Everything known of the proxies at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attendance {
    next: u64,
    /// The number of the announcements: grows with each change of them.
    announced: u64,
    proxies: BTreeMap<u64, Attendant>,
    /// Service (`name.namespace`) to the time it was last wanted.
    wanted: BTreeMap<String, OffsetDateTime>,
    sightings: Sightings,
}

/// One subscribed proxy.
#[derive(Clone, Debug)]
pub(crate) struct Attendant {
    pub(crate) workload: QualifiedName,
    pub(crate) pid: Option<u32>,
    pub(crate) product: String,
    pub(crate) engine_version: u32,
    pub(crate) applied: Option<Revision>,
    pub(crate) leaf_serial: Option<String>,
    /// Of the bundle that it judges its peers by; `None` without one, and of a proxy that does not say.
    pub(crate) bundle_sequence: Option<u64>,
    pub(crate) counted: bool,
    pub(crate) announced: Vec<mesh::Announcement>,
    pub(crate) status: Option<mesh::ProxyStatus>,
    wants: BTreeSet<String>,
}

/// A place in the roster; leaving it is dropping it.
#[derive(Debug)]
pub(crate) struct Seat {
    roster: Roster,
    number: u64,
}

/// A third proxy for one workload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("two proxies already serve {0}; stop one of them first")]
pub(crate) struct Full(QualifiedName);

impl Roster {
    pub(crate) fn new(wanted: BTreeMap<String, OffsetDateTime>) -> Self {
        let attendance = Attendance {
            wanted,
            ..Attendance::default()
        };
        Self {
            attendance: watch::Sender::new(attendance),
            publication: watch::Sender::new(Publication::Untold),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Attendance> {
        self.attendance.subscribe()
    }

    /// As it is now.
    pub(crate) fn attendance(&self) -> Attendance {
        self.attendance.borrow().clone()
    }

    pub(crate) fn publication(&self) -> watch::Receiver<Publication> {
        self.publication.subscribe()
    }

    pub(crate) fn published(&self, publication: Publication) {
        self.publication.send_replace(publication);
    }

    pub(crate) fn enter(
        &self,
        workload: &QualifiedName,
        pid: Option<u32>,
        hello: &mesh::Subscribe,
    ) -> Result<Seat, Full> {
        let mut seated = None;
        self.attendance.send_if_modified(|attendance| {
            seated = attendance.enter(workload, pid, hello);
            seated.is_some()
        });
        let number = seated.ok_or_else(|| Full(workload.clone()))?;
        Ok(Seat {
            roster: self.clone(),
            number,
        })
    }

    /// Drops subscriptions that nobody has wanted for an hour.
    pub(crate) fn tidy(&self, now: OffsetDateTime) {
        self.attendance
            .send_if_modified(|attendance| attendance.tidy(now));
    }
}

impl Publication {
    /// Whether nobody is left who should be told of the announcements with this number.
    pub(crate) fn covers(self, number: u64) -> bool {
        match self {
            Self::Untold => true,
            Self::UpTo(told) => told >= number,
        }
    }
}

impl Seat {
    pub(crate) fn applied(&self, revision: Revision, said: mesh::Applied, counted: bool) {
        self.update(|attendant| {
            attendant.applied = Some(revision);
            attendant.leaf_serial = Some(said.leaf_serial).filter(|serial| !serial.is_empty());
            attendant.bundle_sequence = Some(said.bundle_sequence).filter(|it| *it > 0);
            attendant.counted |= counted;
        });
    }

    /// It has not acknowledged in time.
    pub(crate) fn discount(&self) {
        self.update(|attendant| attendant.counted = false);
    }

    /// Returns the number that stands for what is announced now.
    pub(crate) fn announced(&self, announcements: Vec<mesh::Announcement>) -> u64 {
        let mut number = 0;
        self.roster.attendance.send_modify(|attendance| {
            attendance.announce(|proxies| {
                if let Some(attendant) = proxies.get_mut(&self.number) {
                    attendant.announced = announcements;
                }
            });
            number = attendance.announced;
        });
        number
    }

    pub(crate) fn publication(&self) -> watch::Receiver<Publication> {
        self.roster.publication()
    }

    pub(crate) fn reported(&self, status: mesh::ProxyStatus) {
        self.update(|attendant| attendant.status = Some(status));
    }

    /// Peers have shown these certificates to the proxy.
    pub(crate) fn saw(&self, leaves: Vec<mesh::SeenLeaf>, now: OffsetDateTime) {
        self.roster.attendance.send_if_modified(|attendance| {
            let Some(attendant) = attendance.proxies.get(&self.number) else {
                return false;
            };
            let workload = &attendant.workload;
            attendance.sightings.note(workload, leaves, now)
        });
    }

    /// Returns false when too many services are wanted already.
    pub(crate) fn wants(&self, service: &str, now: OffsetDateTime) -> bool {
        let mut taken = true;
        self.roster.attendance.send_if_modified(|attendance| {
            let known = attendance.wanted.contains_key(service);
            taken = known || attendance.wanted.len() < MOST_SERVICES;
            if !taken {
                return false;
            }
            attendance.wanted.insert(service.to_owned(), now);
            if let Some(attendant) = attendance.proxies.get_mut(&self.number) {
                attendant.wants.insert(service.to_owned());
            }
            !known
        });
        taken
    }

    fn update(&self, change: impl FnOnce(&mut Attendant)) {
        self.roster.attendance.send_modify(|attendance| {
            if let Some(attendant) = attendance.proxies.get_mut(&self.number) {
                change(attendant);
            }
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.roster.attendance.send_modify(|attendance| {
            attendance.announce(|proxies| drop(proxies.remove(&self.number)));
        });
    }
}

impl Attendance {
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Attendant> {
        self.proxies.values()
    }

    /// The revision that every counted proxy decides by, given the one that the agent holds.
    pub(crate) fn acknowledged(&self, held: Revision) -> Option<Revision> {
        let mut lowest = held;
        for proxy in self.proxies().filter(|proxy| proxy.counted) {
            let applied = proxy
                .applied
                .filter(|applied| applied.epoch == held.epoch)?;
            if applied.number < lowest.number {
                lowest = applied;
            }
        }
        Some(lowest)
    }

    /// Whether no counted proxy judges its peers by an older bundle, or presents another leaf than
    /// the one that `serial_of` its workload names.
    pub(crate) fn follows(
        &self,
        bundle_sequence: u64,
        serial_of: impl Fn(&QualifiedName) -> Option<String>,
    ) -> bool {
        let counted = self.proxies().filter(|proxy| proxy.counted);
        counted.into_iter().all(|proxy| {
            let bundle = proxy.bundle_sequence.is_none_or(|it| it >= bundle_sequence);
            let wanted = serial_of(&proxy.workload);
            bundle
                && (wanted.is_none() || proxy.leaf_serial.is_none() || proxy.leaf_serial == wanted)
        })
    }

    pub(crate) fn subscriptions(&self) -> Vec<String> {
        self.wanted.keys().cloned().collect()
    }

    pub(crate) fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    pub(crate) fn wanted(&self) -> &BTreeMap<String, OffsetDateTime> {
        &self.wanted
    }

    pub(crate) fn announcements(&self) -> wire::Announcements {
        let mut by_workload: BTreeMap<_, Vec<&mesh::Announcement>> = BTreeMap::new();
        for proxy in self.proxies() {
            let announced = by_workload.entry(&proxy.workload).or_default();
            for announcement in &proxy.announced {
                // During a takeover both proxies announce the same sockets.
                if !announced.contains(&announcement) {
                    announced.push(announcement);
                }
            }
        }
        let announcements = by_workload.into_iter().flat_map(|(workload, announced)| {
            let announced = announced.into_iter();
            announced.map(|announcement| wire::AgentAnnouncement {
                workload: workload.to_string(),
                announcement: Some(announcement.clone()),
            })
        });
        wire::Announcements {
            announcements: announcements.collect(),
            sequence: self.announced,
        }
    }

    /// The number grows only with what is announced: a proxy that announces nothing yet must not
    /// take back what the CA keeps from the agent before this one.
    fn announce(&mut self, change: impl FnOnce(&mut BTreeMap<u64, Attendant>)) {
        let before = self.announcements().announcements;
        change(&mut self.proxies);
        if self.announcements().announcements != before {
            self.announced += 1;
        }
    }

    /// One report for each workload: during a takeover, that of the proxy that stays.
    pub(crate) fn reports(&self) -> BTreeMap<String, mesh::ProxyStatus> {
        let reports = self.proxies().filter_map(|proxy| {
            let status = proxy.status.clone()?;
            Some((proxy.workload.to_string(), status))
        });
        reports.collect()
    }

    /// What the CA is told of the proxies.
    pub(crate) fn attached(&self) -> Vec<wire::AttachedProxy> {
        let attached = self.proxies().map(|proxy| wire::AttachedProxy {
            workload: proxy.workload.to_string(),
            product: proxy.product.clone(),
            engine_version: proxy.engine_version,
        });
        attached.collect()
    }

    /// The lowest policy engine among the proxies; `own` without any.
    pub(crate) fn engine_version(&self, own: u32) -> u32 {
        let versions = self.proxies().map(|proxy| proxy.engine_version);
        versions.min().map_or(own, |lowest| lowest.min(own))
    }

    fn enter(
        &mut self,
        workload: &QualifiedName,
        pid: Option<u32>,
        hello: &mesh::Subscribe,
    ) -> Option<u64> {
        let same = self.proxies().filter(|proxy| proxy.workload == *workload);
        if same.count() >= DURING_TAKEOVER {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let attendant = Attendant {
            workload: workload.clone(),
            pid,
            product: hello.product.chars().take(128).collect(),
            engine_version: hello.engine_version,
            applied: None,
            leaf_serial: None,
            bundle_sequence: None,
            counted: true,
            announced: Vec::new(),
            status: None,
            wants: BTreeSet::new(),
        };
        self.proxies.insert(number, attendant);
        Some(number)
    }

    fn tidy(&mut self, now: OffsetDateTime) -> bool {
        self.sightings.tidy(now);
        let live: BTreeSet<&String> = self.proxies.values().flat_map(|p| &p.wants).collect();
        let before = self.wanted.len();
        self.wanted.retain(|service, last| {
            if live.contains(service) {
                *last = now;
            }
            now - *last < IDLE
        });
        self.wanted.len() != before
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);
    const HELD: Revision = Revision {
        epoch: 1,
        number: 9,
    };

    fn enter(roster: &Roster) -> Result<Seat, Full> {
        let workload = "shop/orders".parse().unwrap();
        roster.enter(&workload, None, &mesh::Subscribe::default())
    }

    fn revision(number: u64) -> Revision {
        Revision { epoch: 1, number }
    }

    fn acknowledged(roster: &Roster) -> Option<Revision> {
        roster.subscribe().borrow().acknowledged(HELD)
    }

    #[test]
    fn third_proxy_of_a_workload_is_refused_until_one_leaves() {
        let roster = Roster::new(BTreeMap::new());
        let first = enter(&roster).unwrap();
        let _second = enter(&roster).unwrap();
        assert_eq!(
            enter(&roster).unwrap_err(),
            Full("shop/orders".parse().unwrap())
        );
        drop(first);
        assert!(enter(&roster).is_ok());
    }

    #[test]
    fn an_announcement_is_published_when_the_ca_said_so_or_there_is_none() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        let first = seat.announced(vec![mesh::Announcement::default()]);
        let second = seat.announced(Vec::new());
        assert!(!Publication::UpTo(first).covers(second));
        assert!(Publication::UpTo(second).covers(second));
        assert!(Publication::Untold.covers(second));
    }

    #[test]
    fn nothing_is_acknowledged_before_a_counted_proxy_has_applied_it() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        assert_eq!(acknowledged(&roster), None);
        seat.applied(revision(8), mesh::Applied::default(), true);
        assert_eq!(acknowledged(&roster), Some(revision(8)));
    }

    #[test]
    fn revision_of_another_epoch_is_no_acknowledgement() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        seat.applied(
            Revision {
                epoch: 2,
                number: 9,
            },
            mesh::Applied::default(),
            true,
        );
        assert_eq!(acknowledged(&roster), None);
    }

    #[test]
    fn a_bundle_is_followed_when_each_proxy_judges_by_it_and_presents_its_leaf() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        let said = |serial: &str, bundle_sequence| mesh::Applied {
            leaf_serial: serial.to_owned(),
            bundle_sequence,
            ..mesh::Applied::default()
        };
        let follows = |sequence, serial: Option<&str>| {
            let serial = serial.map(str::to_owned);
            roster.attendance().follows(sequence, |_| serial.clone())
        };
        seat.applied(HELD, said("a", 1), true);
        assert!(!follows(2, None));
        assert!(!follows(1, Some("b")));
        seat.applied(HELD, said("b", 2), true);
        assert!(follows(2, Some("b")));
    }

    #[test]
    fn discounted_proxy_does_not_hold_up_the_others() {
        let roster = Roster::new(BTreeMap::new());
        let _silent = enter(&roster).map(|seat| (seat.discount(), seat)).unwrap();
        let seat = enter(&roster).unwrap();
        seat.applied(HELD, mesh::Applied::default(), true);
        assert_eq!(acknowledged(&roster), Some(HELD));
    }

    #[test]
    fn service_is_forgotten_an_hour_after_its_last_asker() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        assert!(seat.wants("orders.shop", NOW));
        roster.tidy(NOW + IDLE * 2);
        assert_eq!(roster.subscribe().borrow().subscriptions(), ["orders.shop"]);
        drop(seat);
        roster.tidy(NOW + IDLE * 3);
        assert!(roster.subscribe().borrow().subscriptions().is_empty());
    }

    #[test]
    fn what_both_proxies_announce_is_announced_once_and_stays_with_the_second() {
        let roster = Roster::new(BTreeMap::new());
        let (old, new) = (enter(&roster).unwrap(), enter(&roster).unwrap());
        old.announced(vec![mesh::Announcement::default()]);
        new.announced(vec![mesh::Announcement::default()]);
        assert_eq!(roster.attendance().announcements().announcements.len(), 1);
        drop(old);
        assert_eq!(roster.attendance().announcements().announcements.len(), 1);
    }

    #[test]
    fn a_proxy_that_announces_nothing_takes_nothing_back() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        let number = seat.announced(Vec::new());
        drop(seat);
        assert_eq!(
            (number, roster.attendance().announcements().sequence),
            (0, 0)
        );
    }

    #[test]
    fn what_a_proxy_announced_leaves_with_it() {
        let roster = Roster::new(BTreeMap::new());
        let seat = enter(&roster).unwrap();
        seat.announced(vec![mesh::Announcement::default()]);
        assert_eq!(roster.attendance().announcements().announcements.len(), 1);
        drop(seat);
        assert_eq!(roster.attendance().announcements().announcements, []);
    }
}
