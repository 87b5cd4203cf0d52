//! What a question is about, and what is answered. Pure.
//!
//! Names between the zone and a Service exist without records, whether or not the namespace has a
//! Service: to deny one would deny everything below it (RFC 8020).

use std::net::IpAddr;

use identity::{Name, Namespace, QualifiedName};

use super::message::{
    Answer, Authority, CLASS_ANY, CLASS_IN, Code, Query, TYPE_A, TYPE_AAAA, TYPE_ANY, TYPE_SOA,
};

/// What a question is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The zone itself.
    Apex,
    /// A namespace.
    Between,
    Service(QualifiedName),
    /// Under the zone, where no Service can be.
    Nothing,
    /// Not of the mesh.
    Elsewhere,
}

/// What is known of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Addresses(Vec<IpAddr>),
    /// The CA says that there is none.
    Missing,
    /// Nobody has said.
    NotYet,
}

impl Subject {
    pub(super) fn of(query: &Query) -> Self {
        let labels: Vec<&[u8]> = query.labels().collect();
        let is = |label: &[u8], text: &str| label.eq_ignore_ascii_case(text.as_bytes());
        match labels.as_slice() {
            [above @ .., mesh, internal] if is(mesh, "mesh") && is(internal, "internal") => {
                Self::under(above)
            }
            _ => Self::Elsewhere,
        }
    }

    fn under(labels: &[&[u8]]) -> Self {
        match labels {
            [] => Self::Apex,
            [_] => Self::Between,
            [service, namespace] => {
                service_name(service, namespace).map_or(Self::Nothing, Self::Service)
            }
            _ => Self::Nothing,
        }
    }
}

fn service_name(service: &[u8], namespace: &[u8]) -> Option<QualifiedName> {
    let text = |label: &[u8]| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
    Some(QualifiedName {
        namespace: text(namespace)?.parse::<Namespace>().ok()?,
        name: text(service)?.parse::<Name>().ok()?,
    })
}

/// The answer about a name of the mesh. `known` matters for a Service only.
pub(super) fn answer(query: &Query, subject: &Subject, known: Known) -> Answer {
    if ![CLASS_IN, CLASS_ANY].contains(&query.class) {
        return Answer::bare(Code::Refused);
    }
    match subject {
        Subject::Elsewhere => Answer::bare(Code::Refused),
        Subject::Nothing => none(Code::NoSuchName),
        Subject::Between => none(Code::NoError),
        Subject::Apex if [TYPE_SOA, TYPE_ANY].contains(&query.kind) => Answer {
            authority: Authority::Soa,
            ..none(Code::NoError)
        },
        Subject::Apex => none(Code::NoError),
        Subject::Service(_) => match known {
            Known::NotYet => Answer::bare(Code::ServerFailure),
            Known::Missing => none(Code::NoSuchName),
            Known::Addresses(addresses) => records(query.kind, addresses),
        },
    }
}

fn records(kind: u16, mut addresses: Vec<IpAddr>) -> Answer {
    addresses.retain(|address| match kind {
        TYPE_A => address.is_ipv4(),
        TYPE_AAAA => address.is_ipv6(),
        _ => kind == TYPE_ANY,
    });
    if addresses.is_empty() {
        return none(Code::NoError);
    }
    Answer {
        code: Code::NoError,
        addresses,
        authority: Authority::Ours,
    }
}

fn none(code: Code) -> Answer {
    Answer {
        code,
        addresses: Vec::new(),
        authority: Authority::Negative,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u16) -> Query {
        let mut wire: Vec<u8> = Vec::new();
        for label in name.split('.').filter(|it| !it.is_empty()) {
            wire.push(u8::try_from(label.len()).unwrap());
            wire.extend_from_slice(label.as_bytes());
        }
        wire.push(0);
        Query {
            id: 7,
            recursion_desired: true,
            checking_disabled: false,
            name: wire,
            kind,
            class: CLASS_IN,
            edns: None,
        }
    }

    fn about(name: &str) -> Subject {
        Subject::of(&query(name, TYPE_A))
    }

    fn orders(kind: u16, known: Known) -> Answer {
        let query = query("orders.shop.mesh.internal", kind);
        answer(&query, &Subject::of(&query), known)
    }

    #[test]
    fn names_of_other_zones_are_elsewhere() {
        for name in [
            "",
            "internal",
            "example.com",
            "mesh.internal.example",
            "a.bmesh.internal",
        ] {
            assert_eq!(about(name), Subject::Elsewhere, "{name}");
        }
    }

    #[test]
    fn names_that_no_service_can_have_are_nothing() {
        for name in [
            "a.b.c.mesh.internal",
            "-a.b.mesh.internal",
            "a_b.c.mesh.internal",
        ] {
            assert_eq!(about(name), Subject::Nothing, "{name}");
        }
        assert_eq!(about("shop.mesh.internal"), Subject::Between);
        assert_eq!(about("MESH.internal"), Subject::Apex);
    }

    #[test]
    fn a_service_that_nobody_has_spoken_of_is_a_failure_and_no_denial() {
        assert_eq!(
            orders(TYPE_A, Known::NotYet),
            Answer::bare(Code::ServerFailure)
        );
        let denied = orders(TYPE_A, Known::Missing);
        assert_eq!(
            (denied.code, denied.authority),
            (Code::NoSuchName, Authority::Negative)
        );
    }

    #[test]
    fn another_class_than_the_internets_is_refused() {
        let mut query = query("orders.shop.mesh.internal", TYPE_A);
        query.class = 3;
        let answer = answer(&query, &Subject::of(&query), Known::Missing);
        assert_eq!(answer, Answer::bare(Code::Refused));
    }

    #[test]
    fn each_type_gets_its_addresses_and_other_types_get_none() {
        let (ipv4, ipv6) = ("240.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let known = || Known::Addresses(vec![ipv4, ipv6]);
        assert_eq!(
            about("Orders.Shop.mesh.internal"),
            about("orders.shop.mesh.internal")
        );
        assert_eq!(orders(TYPE_A, known()).addresses, [ipv4]);
        assert_eq!(orders(TYPE_AAAA, known()).addresses, [ipv6]);
        assert_eq!(orders(TYPE_ANY, known()).addresses, [ipv4, ipv6]);
        let text = orders(16, known());
        assert_eq!(
            (text.code, text.authority),
            (Code::NoError, Authority::Negative)
        );
    }
}
