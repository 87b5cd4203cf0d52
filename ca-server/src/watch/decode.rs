//! What agents send on the watch stream, decoded into types. A message that breaks a rule ends the
//! stream with the field and the rule; nothing of it is taken.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::{QualifiedName, QualifiedNameError, SerialNumber, SpiffeId, SpiffeIdError};
use policy::Revision;
use policy::resource::{HEALTH_PORT, ObjectKey, PortName};
use proto::agent::v1 as wire;
use proto::mesh::v1::{self as mesh, PROTOCOL};
use time::OffsetDateTime;

use super::announcements::{Announcement, Endpoint};
use super::presence::{AttachedProxy, Bypassable, Introduction, ProxyReport};
use super::view::Subscriptions;
use crate::config::Limits;

const LONGEST_NAME: usize = 127;
const LONGEST_ADDRESS: usize = 253;
const LONGEST_PRODUCT: usize = 128;
const MOST_PORTS: usize = 64;
const MOST_BYPASSABLE: usize = 256;
const MOST_PROBLEMS: usize = 32;
const LONGEST_PROBLEM: usize = 512;
const MOST_HELD: usize = 100_000;
const MOST_PROXIES: u32 = 10_000;
const MOST_SIGHTINGS: u32 = 256;
const MOST_AUTHORITIES: u32 = 10;

/// A message of an agent.
#[derive(Debug)]
pub(super) enum Said {
    Hello(Hello),
    Acknowledge(Revision),
    Subscriptions(Subscriptions),
    Announcements(Vec<Announcement>, u64),
    Report(QualifiedName, ProxyReport),
    Proxies(Vec<AttachedProxy>),
    Sightings(Vec<Sighting>),
}

/// A certificate that a peer has shown to the proxy of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) workload: QualifiedName,
    pub(super) spiffe_id: SpiffeId,
    pub(super) serial: SerialNumber,
    pub(super) sha256: Sha256,
    pub(super) authorities: Vec<Sha256>,
}

/// The first message.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) introduction: Introduction,
    /// What the agent has in its cache, if that can be continued.
    pub(super) resume: Option<Resume>,
    /// What its workloads ask for; an older agent says it later.
    pub(super) asked: Option<Subscriptions>,
}

/// A revision, and the objects of it that the agent holds.
#[derive(Debug)]
pub(super) struct Resume {
    pub(super) revision: Revision,
    pub(super) held: BTreeMap<ObjectKey, Revision>,
}

/// Which field broke which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub(super) struct Malformed {
    pub(super) field: &'static str,
    pub(super) rule: String,
}

impl Said {
    pub(super) fn decode(
        message: wire::AgentMessage,
        limits: &Limits,
        now: OffsetDateTime,
    ) -> Result<Self, Malformed> {
        use wire::agent_message::Message;
        match message.message {
            Some(Message::Hello(hello)) => decode_hello(hello, limits, now).map(Self::Hello),
            Some(Message::Acknowledge(acknowledge)) => {
                let revision = acknowledge.revision.map(decode_revision);
                revision
                    .map(Self::Acknowledge)
                    .ok_or_else(|| malformed("acknowledge.revision", "is missing"))
            }
            Some(Message::Subscriptions(subscriptions)) => {
                decode_subscriptions(subscriptions, limits).map(Self::Subscriptions)
            }
            Some(Message::Announcements(announcements)) => {
                let sequence = announcements.sequence;
                decode_announcements(announcements, limits)
                    .map(|list| Self::Announcements(list, sequence))
            }
            Some(Message::Report(report)) => {
                let (workload, report) = decode_report(report)?;
                Ok(Self::Report(workload, report))
            }
            Some(Message::Proxies(proxies)) => decode_proxies(proxies).map(Self::Proxies),
            Some(Message::Sightings(sightings)) => decode_sightings(sightings).map(Self::Sightings),
            None => Err(malformed(
                "message",
                "is missing, or of a kind unknown here",
            )),
        }
    }
}

fn decode_hello(
    hello: wire::Hello,
    limits: &Limits,
    now: OffsetDateTime,
) -> Result<Hello, Malformed> {
    let version = hello
        .version
        .ok_or_else(|| malformed("hello.version", "is missing"))?;
    if !PROTOCOL.interoperates_with(version) {
        return Err(malformed(
            "hello.version",
            format!(
                "{}.{} does not interoperate with this CA's {}.{}; upgrade the older of the two",
                version.major, version.minor, PROTOCOL.major, PROTOCOL.minor
            ),
        ));
    }
    check_length("hello.product", &hello.product, 0, LONGEST_PRODUCT)?;
    let agent_time = i128::from(hello.agent_time_unix_ms) * 1_000_000;
    let agent_time = OffsetDateTime::from_unix_timestamp_nanos(agent_time)
        .map_err(|_| malformed("hello.agent_time_unix_ms", "is no time"))?;
    let asked = hello.subscriptions;
    let asked = asked.map(|asked| decode_subscriptions(asked, limits));
    Ok(Hello {
        introduction: Introduction {
            product: hello.product,
            engine_version: hello.engine_version,
            clock_offset: agent_time - now,
            obeys_deny_lists: version.obeys_deny_lists(),
        },
        resume: hello
            .resume
            .and_then(|revision| decode_resume(revision, hello.held)),
        asked: asked.transpose()?,
    })
}

/// An agent that holds what is not understood here, or nothing, starts over with a snapshot.
fn decode_resume(revision: mesh::Revision, held: Vec<wire::HeldObject>) -> Option<Resume> {
    if held.is_empty() || held.len() > MOST_HELD {
        return None;
    }
    let held = held.into_iter().map(|object| {
        let key = object.key?;
        let key = ObjectKey {
            kind: key.kind.parse().ok()?,
            namespace: match key.namespace.as_str() {
                "" => None,
                namespace => Some(namespace.parse().ok()?),
            },
            name: key.name.parse().ok()?,
        };
        Some((key, object.revision.map(decode_revision)?))
    });
    Some(Resume {
        revision: decode_revision(revision),
        held: held.collect::<Option<_>>()?,
    })
}

fn decode_revision(revision: mesh::Revision) -> Revision {
    Revision {
        epoch: revision.epoch,
        number: revision.number,
    }
}

fn decode_subscriptions(
    subscriptions: wire::Subscriptions,
    limits: &Limits,
) -> Result<Subscriptions, Malformed> {
    let field = "subscriptions.services";
    check_count(
        field,
        subscriptions.services.len(),
        limits.subscriptions.get(),
    )?;
    for name in &subscriptions.services {
        check_length(field, name, 1, LONGEST_NAME)?;
    }
    Ok(subscriptions.services.into_iter().collect())
}

fn decode_announcements(
    announcements: wire::Announcements,
    limits: &Limits,
) -> Result<Vec<Announcement>, Malformed> {
    let list = announcements.announcements;
    check_count("announcements", list.len(), limits.announcements.get())?;
    list.into_iter().map(decode_announcement).collect()
}

fn decode_announcement(announced: wire::AgentAnnouncement) -> Result<Announcement, Malformed> {
    let workload = decode_name("announcements.workload", &announced.workload)?;
    let announcement = announced
        .announcement
        .ok_or_else(|| malformed("announcements.announcement", "is missing"))?;
    let service = format!("{}/{}", announcement.namespace, announcement.service);
    let endpoint = announcement
        .endpoint
        .ok_or_else(|| malformed("announcements.endpoint", "is missing"))?;
    Ok(Announcement {
        workload,
        service: decode_name("announcements.service", &service)?,
        endpoint: decode_endpoint(endpoint)?,
    })
}

fn decode_endpoint(endpoint: mesh::Endpoint) -> Result<Endpoint, Malformed> {
    check_address(&endpoint.address)?;
    check_length("endpoint.zone", &endpoint.zone, 0, LONGEST_NAME)?;
    let count = endpoint.ports.len();
    if count == 0 || count > MOST_PORTS {
        return Err(malformed("endpoint.ports", "must have 1 to 64 entries"));
    }
    let mut ports = BTreeMap::new();
    for (name, port) in endpoint.ports {
        if name != HEALTH_PORT {
            name.parse::<PortName>()
                .map_err(|error| malformed("endpoint.ports", error.to_string()))?;
        }
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| malformed("endpoint.ports", "a port is between 1 and 65535"))?;
        ports.insert(name, port);
    }
    Ok(Endpoint {
        address: endpoint.address,
        ports,
        zone: endpoint.zone,
    })
}

/// An IP address or a host name; proxies connect to what stands here.
fn check_address(address: &str) -> Result<(), Malformed> {
    check_length("endpoint.address", address, 1, LONGEST_ADDRESS)?;
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    if is_address || address.parse::<identity::DnsName>().is_ok() {
        Ok(())
    } else {
        let rule = "is neither an IP address nor a host name";
        Err(malformed("endpoint.address", rule))
    }
}

fn decode_report(report: wire::ProxyReport) -> Result<(QualifiedName, ProxyReport), Malformed> {
    let workload = decode_name("report.workload", &report.workload)?;
    let status = report
        .status
        .ok_or_else(|| malformed("report.status", "is missing"))?;
    let field = "report.status.bypassable";
    if status.bypassable.len() > MOST_BYPASSABLE {
        return Err(malformed(field, "has more than 256 entries"));
    }
    let mut bypassable = Vec::with_capacity(status.bypassable.len());
    for port in status.bypassable {
        check_length(field, &port.service, 0, LONGEST_NAME)?;
        check_length(field, &port.port, 0, LONGEST_NAME)?;
        check_length(field, &port.reach, 0, LONGEST_NAME)?;
        bypassable.push(Bypassable {
            service: port.service,
            port: port.port,
            application_port: u16::try_from(port.application_port)
                .map_err(|_| malformed(field, "a port is below 65536"))?,
            reach: port.reach,
        });
    }
    let field = "report.status.problems";
    if status.problems.len() > MOST_PROBLEMS {
        return Err(malformed(field, "has more than 32 entries"));
    }
    for problem in &status.problems {
        check_length(field, problem, 0, LONGEST_PROBLEM)?;
    }
    let report = ProxyReport {
        bypassable,
        problems: status.problems,
        calls_allowed: status.calls_allowed,
        calls_denied: status.calls_denied,
        calls_failed: status.calls_failed,
        draining: status.draining,
    };
    Ok((workload, report))
}

fn decode_proxies(message: wire::Proxies) -> Result<Vec<AttachedProxy>, Malformed> {
    check_count("proxies", message.proxies.len(), MOST_PROXIES)?;
    let proxies = message.proxies.into_iter().map(|proxy| {
        check_length("proxies.product", &proxy.product, 0, LONGEST_PRODUCT)?;
        Ok(AttachedProxy {
            workload: decode_name("proxies.workload", &proxy.workload)?,
            product: proxy.product,
            engine_version: proxy.engine_version,
        })
    });
    proxies.collect()
}

fn decode_sightings(message: wire::Sightings) -> Result<Vec<Sighting>, Malformed> {
    check_count("sightings", message.sightings.len(), MOST_SIGHTINGS)?;
    let sightings = message.sightings.into_iter().map(|sighting| {
        let leaf = sighting
            .leaf
            .ok_or_else(|| malformed("sightings.leaf", "is missing"))?;
        let spiffe_id = leaf.spiffe_id.parse();
        let serial = SerialNumber::from_bytes(&leaf.serial);
        let sha256 = leaf.sha256.try_into();
        Ok(Sighting {
            workload: decode_name("sightings.workload", &sighting.workload)?,
            spiffe_id: spiffe_id.map_err(|error: SpiffeIdError| {
                malformed("sightings.spiffe_id", error.to_string())
            })?,
            serial: serial.map_err(|error| malformed("sightings.serial", error.to_string()))?,
            sha256: sha256
                .map(Sha256::from_bytes)
                .map_err(|_| malformed("sightings.sha256", "has 32 bytes"))?,
            authorities: decode_authorities(&leaf.authorities)?,
        })
    });
    sightings.collect()
}

fn decode_authorities(keys: &[Vec<u8>]) -> Result<Vec<Sha256>, Malformed> {
    check_count("sightings.authorities", keys.len(), MOST_AUTHORITIES)?;
    let keys = keys.iter().map(|key| <[u8; 32]>::try_from(&**key));
    let keys = keys.map(|key| key.map(Sha256::from_bytes));
    keys.collect::<Result<_, _>>()
        .map_err(|_| malformed("sightings.authorities", "each has 32 bytes"))
}

fn decode_name(field: &'static str, text: &str) -> Result<QualifiedName, Malformed> {
    text.parse()
        .map_err(|error: QualifiedNameError| malformed(field, error.to_string()))
}

fn check_count(field: &'static str, count: usize, most: u32) -> Result<(), Malformed> {
    if u32::try_from(count).is_ok_and(|count| count <= most) {
        Ok(())
    } else {
        Err(malformed(
            field,
            format!("has {count} entries, at most {most} are taken"),
        ))
    }
}

fn check_length(
    field: &'static str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<(), Malformed> {
    if (least..=most).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        let rule = format!("must have {least} to {most} bytes and no control characters");
        Err(malformed(field, rule))
    }
}

fn malformed(field: &'static str, rule: impl Into<String>) -> Malformed {
    Malformed {
        field,
        rule: rule.into(),
    }
}

#[cfg(test)]
#[path = "decode/tests.rs"]
mod tests;
