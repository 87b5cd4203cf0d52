//! Whether the application's port can be reached around the proxy.
//!
//! A port on another address than loopback is open to the network, unless `countersign redirect`
//! leads those who come from there to the proxy. On loopback it is safe only in a network
//! namespace of its own; where the namespace is the host's, or that cannot be told, any local user
//! reaches it. When in doubt, the worse is reported.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::service_port::ServicePort;
use crate::state::Served;
use crate::status::{BypassablePort, Reachable};
use crate::transparent::InboundRedirect;

/// Looks at the sockets that listen now, for each application of ours. `inbound` is the proxy's
/// inbound redirect port, if it has one.
pub(crate) fn look(
    served: &BTreeMap<ServicePort, Served>,
    inbound: Option<u16>,
) -> Vec<BypassablePort> {
    let listening = listening();
    let shared = is_namespace_shared();
    judge(served, &listening, shared, &InboundRedirect::look(inbound))
}

fn judge(
    served: &BTreeMap<ServicePort, Served>,
    listening: &[(IpAddr, u16)],
    shared: bool,
    redirect: &InboundRedirect,
) -> Vec<BypassablePort> {
    let found = served.iter().filter_map(|(target, served)| {
        let port = served.application_port()?;
        let redirected = redirect.covers(port);
        let reach = listening
            .iter()
            .filter(|(_, number)| *number == port)
            .filter_map(|(ip, _)| reach(*ip, shared, redirected))
            .max()?;
        Some(BypassablePort {
            target: target.clone(),
            application_port: port,
            reach,
        })
    });
    found.collect()
}

fn reach(ip: IpAddr, shared: bool, redirected: bool) -> Option<Reachable> {
    let ip = match ip {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip => ip,
    };
    if !ip.is_loopback() && !redirected {
        return Some(Reachable::Network);
    }
    shared.then_some(Reachable::LocalUsers)
}

/// Ours is the first process's namespace, or it cannot be told.
fn is_namespace_shared() -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    match (of("self"), of("1")) {
        (Ok(own), Ok(first)) => own == first,
        _ => true,
    }
}

fn listening() -> Vec<(IpAddr, u16)> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = tables
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| parse_table(&text)).collect()
}

/// The listening sockets of a table as in proc_net_tcp(5).
fn parse_table(text: &str) -> Vec<(IpAddr, u16)> {
    const LISTEN: &str = "0A";
    let rows = text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, _peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == LISTEN).then(|| parse_address(local)).flatten()
    });
    rows.collect()
}

/// `0100007F:1F90`: words of four bytes in the machine's order, then the port.
fn parse_address(text: &str) -> Option<(IpAddr, u16)> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = words.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match words.len() {
        8 => Some((IpAddr::V4(Ipv4Addr::from(word(0)?)), port)),
        32 => {
            let parts = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&parts.concat());
            Some((IpAddr::V6(Ipv6Addr::from(bytes)), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use policy::Protocol;
    use proptest::prelude::*;

    use super::*;
    use crate::transparent::{RedirectRecord, RedirectedPorts};

    fn served() -> BTreeMap<ServicePort, Served> {
        let name = "shop/orders:http".parse().unwrap();
        let served = Served {
            traffic: policy::Traffic::default(),
            protocol: Protocol::Http,
            application: "127.0.0.1:8080".into(),
        };
        [(name, served)].into()
    }

    fn check(listening: &[&str], shared: bool, expected: Option<Reachable>) {
        let listening: Vec<_> = listening
            .iter()
            .map(|ip| (ip.parse().unwrap(), 8080))
            .collect();
        let found = judge(&served(), &listening, shared, &InboundRedirect::default());
        assert_eq!(found.first().map(|it| it.reach), expected);
    }

    #[test]
    fn a_port_beyond_loopback_is_open_to_the_network() {
        for address in ["0.0.0.0", "::", "10.0.0.7"] {
            check(&["127.0.0.1", address], false, Some(Reachable::Network));
        }
    }

    #[test]
    fn loopback_is_safe_only_in_a_namespace_of_its_own() {
        check(&["127.0.0.1"], true, Some(Reachable::LocalUsers));
        check(&["::1"], true, Some(Reachable::LocalUsers));
        check(&["127.0.0.1", "::1", "::ffff:127.0.0.1"], false, None);
        check(&[], true, None);
    }

    #[test]
    fn a_redirected_port_is_closed_to_the_network_and_no_other_is() {
        let redirect = |ports: &[u16]| {
            let record = RedirectRecord {
                backend: "nftables".to_owned(),
                proxy_uid: 1337,
                inbound_port: Some(15006),
                inbound: Some(RedirectedPorts::Only(ports.iter().copied().collect())),
            };
            InboundRedirect::of(record, 15006)
        };
        let open = [("0.0.0.0".parse().unwrap(), 8080)];
        let other = judge(&served(), &open, false, &redirect(&[9090]));
        assert_eq!(other[0].reach, Reachable::Network);
        let shared = judge(&served(), &open, true, &redirect(&[8080]));
        assert_eq!(shared[0].reach, Reachable::LocalUsers);
        assert_eq!(judge(&served(), &open, false, &redirect(&[8080])), []);
    }

    #[test]
    fn a_listening_socket_of_ours_is_found() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert!(listening().contains(&(address.ip(), address.port())));
    }

    #[test]
    fn both_families_are_read() {
        let ipv4 = parse_address("0100007F:1F90").unwrap();
        let ipv6 = parse_address("00000000000000000000000001000000:1F90").unwrap();
        assert_eq!(ipv4, ("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!(ipv6, ("::1".parse().unwrap(), 8080));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_table_panics(text in "[ -~\n]{0,200}") {
            let _ = parse_table(&text);
        }
    }
}
