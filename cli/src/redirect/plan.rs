//! What is to be redirected, as the proxy's configuration and the operator say. Pure.
//!
//! Refused: rules that lead nowhere, that would lead mesh callers or the proxy in a circle, or
//! whose port the proxy chooses anew at each start.

use std::collections::BTreeSet;
use std::str::FromStr;

use ca_server::store::Cidr;
use nix::unistd::User;
use runtime::exit::Usage;

/// Complete and consistent: made by [`Plan::of`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    proxy_uid: u32,
    exempt_uids: BTreeSet<u32>,
    outbound: Option<u16>,
    inbound: Option<Inbound>,
    dns: Option<u16>,
    excluded_ports: BTreeSet<u16>,
    excluded_cidrs: Vec<Cidr>,
}

/// What others connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inbound {
    /// Where it is led.
    pub(super) to: u16,
    pub(super) ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    Only(BTreeSet<u16>),
    AllBut(BTreeSet<u16>),
}

/// What the operator asks for beside the proxy's configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) proxy_uid: u32,
    pub(super) exempt_uids: BTreeSet<u32>,
    pub(super) ports: Vec<PortChoice>,
    pub(super) excluded_ports: BTreeSet<u16>,
    pub(super) excluded_cidrs: Vec<Cidr>,
}

/// A port of the application, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortChoice {
    One(u16),
    All,
}

/// A user, by uid or by name.
#[derive(Clone, Debug)]
pub(super) struct UserChoice(String);

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error(
        "the proxy's configuration has neither `transparent.outbound`, nor `transparent.inbound`, \
         nor `dns.listen`: there is nowhere to lead connections to"
    )]
    Nowhere,
    #[error("{0} has port 0, which the proxy chooses anew at each start: give it a fixed port")]
    NoFixedPort(&'static str),
    #[error("`transparent.inbound` needs `--port`: which ports are the application's?")]
    NoPorts,
    #[error("`--port` needs `transparent.inbound` in the proxy's configuration")]
    NoInbound,
    #[error(
        "`--port all` needs a fixed port for each mesh listener (`[mesh.ports]`), or it would \
         lead the mesh's own callers away"
    )]
    MeshPortsUnknown,
    #[error("port {0} is the proxy's own")]
    OwnPort(u16),
}

impl Plan {
    /// # Errors
    /// See [`PlanError`].
    pub(super) fn of(config: &proxy::Config, wishes: &Wishes) -> Result<Self, PlanError> {
        let transparent = &config.transparent;
        let outbound = fixed("transparent.outbound", transparent.outbound_port())?;
        let dns = config.dns.as_ref().and_then(proxy::config::Dns::port);
        let dns = fixed("dns.listen", dns)?;
        let inbound = inbound(config, &wishes.ports)?;
        if outbound.is_none() && inbound.is_none() && dns.is_none() {
            return Err(PlanError::Nowhere);
        }
        Ok(Self {
            proxy_uid: wishes.proxy_uid,
            exempt_uids: wishes.exempt_uids.clone(),
            outbound,
            inbound,
            dns,
            excluded_ports: wishes.excluded_ports.clone(),
            excluded_cidrs: wishes.excluded_cidrs.clone(),
        })
    }

    pub(super) fn proxy_uid(&self) -> u32 {
        self.proxy_uid
    }

    /// Whose connections are left alone; the proxy's first.
    pub(super) fn exempt(&self) -> impl Iterator<Item = u32> {
        let others = self.exempt_uids.iter().copied();
        let others = others.filter(|uid| *uid != self.proxy_uid);
        std::iter::once(self.proxy_uid).chain(others)
    }

    pub(super) fn outbound(&self) -> Option<u16> {
        self.outbound
    }

    pub(super) fn inbound(&self) -> Option<&Inbound> {
        self.inbound.as_ref()
    }

    pub(super) fn dns(&self) -> Option<u16> {
        self.dns
    }

    pub(super) fn excluded_ports(&self) -> &BTreeSet<u16> {
        &self.excluded_ports
    }

    pub(super) fn excluded_cidrs(&self) -> &[Cidr] {
        &self.excluded_cidrs
    }
}

fn fixed(field: &'static str, port: Option<u16>) -> Result<Option<u16>, PlanError> {
    match port {
        Some(0) => Err(PlanError::NoFixedPort(field)),
        port => Ok(port),
    }
}

fn inbound(config: &proxy::Config, ports: &[PortChoice]) -> Result<Option<Inbound>, PlanError> {
    let to = fixed("transparent.inbound", config.transparent.inbound_port())?;
    let Some(to) = to else {
        return match ports {
            [] => Ok(None),
            _ => Err(PlanError::NoInbound),
        };
    };
    let mesh = &config.mesh.ports;
    let own: BTreeSet<u16> = mesh.values().copied().chain([to]).collect();
    if ports.contains(&PortChoice::All) {
        if mesh.is_empty() || own.contains(&0) {
            return Err(PlanError::MeshPortsUnknown);
        }
        let ports = Ports::AllBut(own);
        return Ok(Some(Inbound { to, ports }));
    }
    let one = |choice: &PortChoice| match choice {
        PortChoice::One(port) => Some(*port),
        PortChoice::All => None,
    };
    let only: BTreeSet<u16> = ports.iter().filter_map(one).collect();
    if only.is_empty() {
        return Err(PlanError::NoPorts);
    }
    match only.intersection(&own).next() {
        Some(port) => Err(PlanError::OwnPort(*port)),
        None => Ok(Some(Inbound {
            to,
            ports: Ports::Only(only),
        })),
    }
}

impl UserChoice {
    /// # Errors
    /// If there is no such user.
    pub(super) fn uid(&self) -> Result<u32, Usage> {
        if let Ok(uid) = self.0.parse() {
            return Ok(uid);
        }
        let found = User::from_name(&self.0).ok().flatten();
        found
            .map(|user| user.uid.as_raw())
            .ok_or_else(|| Usage(format!("there is no user {:?}", self.0)))
    }
}

impl FromStr for UserChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for PortChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(port)) if port != 0 => Ok(Self::One(port)),
            _ => Err("a port from 1 to 65535, or `all`".to_owned()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::redirect) const CONFIG: &str = "
        [transparent]
        outbound = [\"127.0.0.1:15001\", \"[::1]:15001\"]
        inbound = [\"[::]:15006\"]
        [dns]
        listen = [\"127.0.0.1:15053\", \"[::1]:15053\"]
        [mesh.ports]
        \"shop/orders:http\" = 31006
        ";

    pub(in crate::redirect) fn plan(config: &str, ports: &[&str]) -> Result<Plan, PlanError> {
        let text = format!("workload = \"shop/orders\"\n{config}");
        let config: proxy::Config = runtime::config::parse("proxy.toml", &text).unwrap();
        let wishes = Wishes {
            proxy_uid: 1337,
            exempt_uids: [0].into(),
            ports: ports.iter().map(|it| it.parse().unwrap()).collect(),
            excluded_ports: [22].into(),
            excluded_cidrs: ["10.9.0.0/16", "fd99::/16"]
                .map(|it| it.parse().unwrap())
                .to_vec(),
        };
        Plan::of(&config, &wishes)
    }

    #[test]
    fn rules_that_lead_nowhere_are_refused() {
        assert_eq!(plan("", &[]), Err(PlanError::Nowhere));
        assert_eq!(plan("", &["8080"]), Err(PlanError::NoInbound));
        assert_eq!(plan(CONFIG, &[]), Err(PlanError::NoPorts));
        let any = "[transparent]\noutbound = [\"127.0.0.1:0\"]";
        let expected = Err(PlanError::NoFixedPort("transparent.outbound"));
        assert_eq!(plan(any, &[]), expected);
    }

    #[test]
    fn rules_that_would_lead_the_mesh_in_a_circle_are_refused() {
        assert_eq!(
            plan(CONFIG, &["8080", "31006"]),
            Err(PlanError::OwnPort(31006))
        );
        assert_eq!(plan(CONFIG, &["15006"]), Err(PlanError::OwnPort(15006)));
        let unknown = "[transparent]\ninbound = [\"[::]:15006\"]";
        assert_eq!(plan(unknown, &["all"]), Err(PlanError::MeshPortsUnknown));
    }

    #[test]
    fn all_ports_are_all_but_the_proxys_own() {
        let plan = plan(CONFIG, &["all"]).unwrap();
        let expected = Ports::AllBut([15006, 31006].into());
        assert_eq!(plan.inbound().unwrap().ports, expected);
        assert_eq!(plan.exempt().collect::<Vec<_>>(), [1337, 0]);
    }

    #[test]
    fn a_user_that_is_not_there_is_refused() {
        assert!(UserChoice("no-such-user".to_owned()).uid().is_err());
        assert_eq!(UserChoice("root".to_owned()).uid().unwrap(), 0);
        assert!("0".parse::<PortChoice>().is_err());
    }
}
