//! The rules as one nftables transaction: a table of our own for both address families. Pure.

use std::fmt::Write;

use super::plan::{Inbound, Plan, Ports};

pub(super) const TABLE: &str = "countersign";

/// A connection that began before the rules is left as it is: the kernel may only now begin to
/// track it, and would take its next packet for a new connection.
const NOT_NEW: &str = "tcp flags & (fin | syn | rst | ack) != syn return";

/// Replaces the table, whatever it held; the kernel takes all of it or nothing.
pub(super) fn install(plan: &Plan) -> String {
    let mut chains = String::new();
    if plan.outbound().is_some() || plan.dns().is_some() {
        chains += &chain("outbound", "output", &outbound(plan));
    }
    if let Some(inbound) = plan.inbound() {
        chains += &chain("inbound", "prerouting", &rules_in(inbound));
    }
    format!("{}table inet {TABLE} {{\n{chains}}}\n", remove())
}

/// Removes the table; no error if there is none.
pub(super) fn remove() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

fn outbound(plan: &Plan) -> Vec<String> {
    let mut rules = vec![format!("meta skuid {} return", set(plan.exempt()))];
    if !plan.excluded_ports().is_empty() {
        let ports = set(plan.excluded_ports());
        rules.push(format!(
            "meta l4proto {{ tcp, udp }} th dport {ports} return"
        ));
    }
    for (family, ipv4) in [("ip", true), ("ip6", false)] {
        let cidrs = plan.excluded_cidrs().iter();
        let cidrs: Vec<_> = cidrs.filter(|it| it.is_ipv4() == ipv4).collect();
        if !cidrs.is_empty() {
            rules.push(format!("{family} daddr {} return", set(cidrs)));
        }
    }
    // Before loopback: a resolver may well be there.
    if let Some(port) = plan.dns() {
        rules.push(format!(
            "meta l4proto {{ tcp, udp }} th dport 53 redirect to :{port}"
        ));
    }
    rules.push("oifname \"lo\" return".to_owned());
    if let Some(port) = plan.outbound() {
        rules.push("meta l4proto != tcp return".to_owned());
        rules.push(NOT_NEW.to_owned());
        rules.push(format!("meta l4proto tcp redirect to :{port}"));
    }
    rules
}

fn rules_in(inbound: &Inbound) -> Vec<String> {
    let mut rules = vec![
        "iifname \"lo\" return".to_owned(),
        "meta l4proto != tcp return".to_owned(),
        NOT_NEW.to_owned(),
    ];
    let to = inbound.to;
    match &inbound.ports {
        Ports::Only(ports) => {
            rules.push(format!("tcp dport {} redirect to :{to}", set(ports)));
        }
        Ports::AllBut(own) => {
            rules.push(format!("tcp dport {} return", set(own)));
            rules.push(format!("meta l4proto tcp redirect to :{to}"));
        }
    }
    rules
}

/// At the priority of destination NAT.
fn chain(name: &str, hook: &str, rules: &[String]) -> String {
    let mut text =
        format!("\tchain {name} {{\n\t\ttype nat hook {hook} priority -100; policy accept;\n");
    for rule in rules {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\t\t{rule}");
    }
    text + "\t}\n"
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|it| it.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{CONFIG, plan};
    use super::*;

    #[test]
    fn the_whole_is_one_transaction_that_replaces_our_table() {
        let script = install(&plan(CONFIG, &["8080", "9090"]).unwrap());
        let expected = "\
add table inet countersign
delete table inet countersign
table inet countersign {
\tchain outbound {
\t\ttype nat hook output priority -100; policy accept;
\t\tmeta skuid { 1337, 0 } return
\t\tmeta l4proto { tcp, udp } th dport { 22 } return
\t\tip daddr { 10.9.0.0/16 } return
\t\tip6 daddr { fd99::/16 } return
\t\tmeta l4proto { tcp, udp } th dport 53 redirect to :15053
\t\toifname \"lo\" return
\t\tmeta l4proto != tcp return
\t\ttcp flags & (fin | syn | rst | ack) != syn return
\t\tmeta l4proto tcp redirect to :15001
\t}
\tchain inbound {
\t\ttype nat hook prerouting priority -100; policy accept;
\t\tiifname \"lo\" return
\t\tmeta l4proto != tcp return
\t\ttcp flags & (fin | syn | rst | ack) != syn return
\t\ttcp dport { 8080, 9090 } redirect to :15006
\t}
}
";
        assert_eq!(script, expected);
    }

    #[test]
    fn where_nothing_is_listened_on_nothing_is_redirected() {
        let only_out = "[transparent]\noutbound = [\"127.0.0.1:15001\"]";
        let script = install(&plan(only_out, &[]).unwrap());
        assert!(!script.contains("prerouting") && !script.contains("dport 53"));
    }

    #[test]
    fn mesh_listeners_are_left_alone_where_all_ports_are_the_applications() {
        let script = install(&plan(CONFIG, &["all"]).unwrap());
        assert!(script.contains(
            "\t\ttcp dport { 15006, 31006 } return\n\t\tmeta l4proto tcp redirect to :15006\n"
        ));
    }
}
