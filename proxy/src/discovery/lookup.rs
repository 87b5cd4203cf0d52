//! One lookup: a name's addresses of one kind, from the hosts file or from the resolvers.
//!
//! Names are taken as they are: neither `search` nor `ndots` of resolv.conf(5) is applied.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use tokio::time::timeout;

use super::HostName;
use super::slot::Heard;
use crate::dns::message::{self, CLASS_IN, Query, Response, TYPE_A, TYPE_AAAA};
use crate::dns::{Resolver, over_tcp, over_udp, system_resolvers};

const HOSTS: &str = "/etc/hosts";
/// For each resolver.
const WAIT: Duration = Duration::from_secs(2);
/// As many as the C library asks (resolv.conf(5)).
const MOST: usize = 3;
/// What the hosts file says is believed so long.
const HOSTS_TTL: Duration = Duration::from_secs(5);

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Who is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Resolvers {
    configured: Vec<Resolver>,
    /// Our own listeners, which would ask in a circle.
    own: Vec<SocketAddr>,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn kind(self) -> u16 {
        match self {
            Self::V4 => TYPE_A,
            Self::V6 => TYPE_AAAA,
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

impl Resolvers {
    pub(crate) fn new(configured: Vec<Resolver>, own: Vec<SocketAddr>) -> Self {
        Self { configured, own }
    }

    /// The first answer.
    pub(crate) async fn look_up(&self, name: &HostName, family: Family) -> Heard {
        let (use_hosts, resolvers) = self.current();
        if let Some(addresses) = own_name(name, family) {
            let ttl = HOSTS_TTL;
            return Heard::Addresses { addresses, ttl };
        }
        if use_hosts {
            let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
            let all: Vec<IpAddr> = listed(&hosts, name.as_str()).collect();
            let addresses: Vec<IpAddr> = all.iter().filter(|it| family.has(it)).copied().collect();
            if !addresses.is_empty() {
                let ttl = HOSTS_TTL;
                return Heard::Addresses { addresses, ttl };
            }
            // A name that the file has is the file's alone.
            if !all.is_empty() {
                return Heard::Nothing {
                    ttl: Some(HOSTS_TTL),
                };
            }
        }
        for resolver in resolvers {
            if let Some(heard) = ask(resolver, name, family).await {
                return heard;
            }
        }
        Heard::Failed
    }

    /// Whether the hosts file counts, and who is asked. The files are read each time: both change
    /// while a host runs.
    fn current(&self) -> (bool, Vec<SocketAddr>) {
        let mut resolvers = Vec::new();
        for resolver in &self.configured {
            match resolver {
                Resolver::At(address) => resolvers.push(*address),
                Resolver::System => {
                    resolvers.extend(system_resolvers().filter(|it| !self.own.contains(it)));
                }
            }
        }
        resolvers.truncate(MOST);
        (self.configured.contains(&Resolver::System), resolvers)
    }
}

/// What is this host itself under any circumstances (RFC 6761 section 6.3).
fn own_name(name: &HostName, family: Family) -> Option<Vec<IpAddr>> {
    let name = name.as_str();
    let own = name == "localhost" || name.ends_with(".localhost");
    own.then(|| vec![family.loopback()])
}

/// None if this resolver gives no answer.
async fn ask(resolver: SocketAddr, name: &HostName, family: Family) -> Option<Heard> {
    let query = Query {
        id: u16::from_be_bytes(SystemRandom.bytes()),
        recursion_desired: true,
        checking_disabled: false,
        name: message::host_name(name.as_str())?,
        kind: family.kind(),
        class: CLASS_IN,
        edns: None,
    };
    match timeout(WAIT, exchange(resolver, &query)).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(error)) => {
            tracing::debug!(%error, %resolver, %name, "the resolver does not answer");
            None
        }
        Err(_) => {
            tracing::debug!(%resolver, %name, "the resolver does not answer in time");
            None
        }
    }
}

async fn exchange(resolver: SocketAddr, query: &Query) -> std::io::Result<Option<Heard>> {
    let question = message::question(query);
    let read = |answer: &[u8]| message::read(answer, query).map_err(std::io::Error::other);
    let mut response = read(&over_udp(resolver, &question, query).await?)?;
    if response == Response::Truncated {
        response = read(&over_tcp(resolver, &question, query).await?)?;
    }
    let seconds = |ttl| Duration::from_secs(u64::from(ttl));
    Ok(match response {
        Response::Addresses { addresses, ttl } => Some(Heard::Addresses {
            addresses,
            ttl: seconds(ttl),
        }),
        Response::Nothing { ttl } => Some(Heard::Nothing {
            ttl: ttl.map(seconds),
        }),
        Response::Truncated => None,
        Response::Failed { code } => {
            tracing::debug!(code, %resolver, "the resolver cannot say");
            None
        }
    })
}

/// The addresses of a name in hosts(5).
fn listed<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    })
}

#[cfg(test)]
mod tests;
