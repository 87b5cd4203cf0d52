//! The rules for hosts without nftables: two chains of our own in each family's `nat` table, and
//! the jumps to them. Pure; `iptables-restore` takes a script whole or not at all.

use super::plan::{Inbound, Plan, Ports};

const OUT: &str = "COUNTERSIGN_OUT";
const IN: &str = "COUNTERSIGN_IN";
const HOOKS: [(&str, &str); 2] = [("OUTPUT", OUT), ("PREROUTING", IN)];

/// Which of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// What of ours a `nat` table holds already, as `iptables-save` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    chains: Vec<&'static str>,
    jumps: Vec<String>,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    pub(super) fn restore(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables-restore",
            Self::Ipv6 => "ip6tables-restore",
        }
    }

    pub(super) fn save(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables-save",
            Self::Ipv6 => "ip6tables-save",
        }
    }
}

impl Present {
    pub(super) fn of(saved: &str) -> Self {
        let declared = |chain: &str| {
            let start = format!(":{chain} ");
            saved.lines().any(|line| line.starts_with(&start))
        };
        let is_jump = |line: &&str| {
            HOOKS.iter().any(|(hook, chain)| {
                line.starts_with(&format!("-A {hook} ")) && line.ends_with(&format!("-j {chain}"))
            })
        };
        Self {
            chains: [OUT, IN].into_iter().filter(|it| declared(it)).collect(),
            jumps: saved.lines().filter(is_jump).map(str::to_owned).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.jumps.is_empty()
    }

    fn without_jumps(&self) -> impl Iterator<Item = String> {
        self.jumps.iter().map(|jump| jump.replacen("-A", "-D", 1))
    }
}

pub(super) fn install(plan: &Plan, family: Family, present: &Present) -> String {
    let mut lines = vec!["*nat".to_owned()];
    // A chain that is declared is emptied.
    lines.extend([OUT, IN].map(|chain| format!(":{chain} - [0:0]")));
    lines.extend(outbound(plan, family).map(|rule| format!("-A {OUT} {rule}")));
    let inbound = plan.inbound().into_iter().flat_map(rules_in);
    lines.extend(inbound.map(|rule| format!("-A {IN} {rule}")));
    lines.extend(present.without_jumps());
    lines.extend(HOOKS.map(|(hook, chain)| format!("-I {hook} 1 -j {chain}")));
    script(&lines)
}

pub(super) fn remove(present: &Present) -> String {
    let mut lines = vec!["*nat".to_owned()];
    lines.extend(present.without_jumps());
    for command in ["-F", "-X"] {
        lines.extend(
            present
                .chains
                .iter()
                .map(|chain| format!("{command} {chain}")),
        );
    }
    script(&lines)
}

fn outbound(plan: &Plan, family: Family) -> impl Iterator<Item = String> {
    let mut rules: Vec<String> = plan
        .exempt()
        .map(|uid| format!("-m owner --uid-owner {uid} -j RETURN"))
        .collect();
    for port in plan.excluded_ports() {
        rules.extend(["tcp", "udp"].map(|it| format!("-p {it} --dport {port} -j RETURN")));
    }
    let cidrs = plan.excluded_cidrs().iter();
    let ours = cidrs.filter(|it| it.is_ipv4() == (family == Family::Ipv4));
    rules.extend(ours.map(|cidr| format!("-d {cidr} -j RETURN")));
    // Before loopback: a resolver may well be there.
    if let Some(port) = plan.dns() {
        let redirect = |it: &str| format!("-p {it} --dport 53 -j REDIRECT --to-ports {port}");
        rules.extend(["tcp", "udp"].map(redirect));
    }
    rules.push("-o lo -j RETURN".to_owned());
    if let Some(port) = plan.outbound() {
        rules.push(format!("-p tcp --syn -j REDIRECT --to-ports {port}"));
    }
    rules.into_iter()
}

fn rules_in(inbound: &Inbound) -> Vec<String> {
    let to = inbound.to;
    let mut rules = vec!["-i lo -j RETURN".to_owned()];
    match &inbound.ports {
        Ports::Only(ports) => rules.extend(
            ports
                .iter()
                .map(|port| format!("-p tcp --syn --dport {port} -j REDIRECT --to-ports {to}")),
        ),
        Ports::AllBut(own) => {
            rules.extend(
                own.iter()
                    .map(|port| format!("-p tcp --dport {port} -j RETURN")),
            );
            rules.push(format!("-p tcp --syn -j REDIRECT --to-ports {to}"));
        }
    }
    rules
}

fn script(lines: &[String]) -> String {
    lines.join("\n") + "\nCOMMIT\n"
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{CONFIG, plan};
    use super::*;

    const SAVED: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n:COUNTERSIGN_OUT - [0:0]\n:DOCKER - [0:0]\n\
        -A OUTPUT -j COUNTERSIGN_OUT\n-A OUTPUT -j DOCKER\n-A DOCKER -j COUNTERSIGN_OUTER\nCOMMIT\n";

    #[test]
    fn only_what_is_ours_is_removed() {
        let script = remove(&Present::of(SAVED));
        let expected = "*nat\n-D OUTPUT -j COUNTERSIGN_OUT\n-F COUNTERSIGN_OUT\n\
                        -X COUNTERSIGN_OUT\nCOMMIT\n";
        assert_eq!(script, expected);
        assert!(Present::of(":DOCKER - [0:0]\n-A OUTPUT -j DOCKER").is_empty());
    }

    #[test]
    fn installing_again_leaves_one_jump() {
        let plan = plan(CONFIG, &["8080"]).unwrap();
        let script = install(&plan, Family::Ipv4, &Present::of(SAVED));
        let deleted = script.find("-D OUTPUT -j COUNTERSIGN_OUT").unwrap();
        let added = script.find("-I OUTPUT 1 -j COUNTERSIGN_OUT").unwrap();
        assert!(deleted < added);
    }

    #[test]
    fn each_family_gets_its_own_addresses_and_the_proxy_is_first_exempt() {
        let plan = plan(CONFIG, &["8080"]).unwrap();
        let script = install(&plan, Family::Ipv6, &Present::default());
        assert!(script.contains("-d fd99::/16 -j RETURN") && !script.contains("10.9.0.0"));
        let rules: Vec<_> = script.lines().filter(|it| it.starts_with("-A")).collect();
        assert_eq!(
            rules[0],
            "-A COUNTERSIGN_OUT -m owner --uid-owner 1337 -j RETURN"
        );
        let dns = rules
            .iter()
            .position(|it| it.contains("--dport 53"))
            .unwrap();
        let loopback = rules.iter().position(|it| it.contains("-o lo")).unwrap();
        assert!(dns < loopback);
        let last = "-A COUNTERSIGN_IN -p tcp --syn --dport 8080 -j REDIRECT --to-ports 15006";
        assert_eq!(*rules.last().unwrap(), last);
    }
}
