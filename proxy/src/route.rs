//! From the authority of a request to the Service that it names.
//!
//! A mesh host is exactly `service.namespace.mesh.internal`, in any case, with an optional
//! final dot and an optional port (80 if left out). Anything else is not of the mesh.

use http::uri::Authority;
use identity::{Name, Namespace, QualifiedName};

/// The zone that all names of the mesh are in.
pub(crate) const ZONE: &str = "mesh.internal";

/// A Service and the port number that callers say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Destination {
    pub service: QualifiedName,
    pub port: u16,
}

/// Why an authority names no Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOfTheMesh {
    #[error("the request names no host")]
    NoHost,
    #[error("{0} is not under {ZONE}")]
    OtherZone(String),
    #[error("{0} is not <service>.<namespace>.{ZONE}")]
    Shape(String),
    #[error("{0} has a port that is no number from 1 to 65535")]
    Port(String),
}

impl Destination {
    /// # Errors
    /// If the authority is not a mesh host.
    pub(crate) fn of(authority: Option<&Authority>) -> Result<Self, NotOfTheMesh> {
        let authority = authority.ok_or(NotOfTheMesh::NoHost)?;
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let name = host
            .strip_suffix(ZONE)
            .and_then(|rest| rest.strip_suffix('.'))
            .ok_or_else(|| NotOfTheMesh::OtherZone(host.to_owned()))?;
        let service = service(name).ok_or_else(|| NotOfTheMesh::Shape(host.to_owned()))?;
        let port = port(authority).ok_or_else(|| NotOfTheMesh::Port(authority.to_string()))?;
        Ok(Self { service, port })
    }
}

fn service(name: &str) -> Option<QualifiedName> {
    let (service, namespace) = name.split_once('.')?;
    Some(QualifiedName {
        namespace: namespace.parse::<Namespace>().ok()?,
        name: service.parse::<Name>().ok()?,
    })
}

fn port(authority: &Authority) -> Option<u16> {
    let text = authority.as_str();
    if text.len() == authority.host().len() {
        return Some(80);
    }
    authority.port_u16().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Destination, NotOfTheMesh> {
        Destination::of(Some(&text.parse().unwrap()))
    }

    #[test]
    fn hosts_outside_the_zone_are_not_of_the_mesh() {
        for text in [
            "example.com",
            "mesh.internal",
            "orders.shopmesh.internal",
            "127.0.0.1:80",
        ] {
            assert!(
                matches!(parse(text), Err(NotOfTheMesh::OtherZone(_))),
                "{text}"
            );
        }
        assert_eq!(Destination::of(None), Err(NotOfTheMesh::NoHost));
    }

    #[test]
    fn hosts_of_another_shape_are_not_of_the_mesh() {
        for text in [
            "shop.mesh.internal",
            "a.b.c.mesh.internal",
            "-a.b.mesh.internal",
        ] {
            assert!(matches!(parse(text), Err(NotOfTheMesh::Shape(_))), "{text}");
        }
        assert!(matches!(
            parse("a.b.mesh.internal:0"),
            Err(NotOfTheMesh::Port(_))
        ));
        assert!(matches!(
            parse("a.b.mesh.internal:"),
            Err(NotOfTheMesh::Port(_))
        ));
    }

    #[test]
    fn a_mesh_host_names_service_and_port() {
        let plain = parse("orders.shop.mesh.internal").unwrap();
        assert_eq!(
            (plain.service.to_string().as_str(), plain.port),
            ("shop/orders", 80)
        );
        assert_eq!(parse("Orders.Shop.MESH.internal.:80").unwrap(), plain);
        assert_eq!(parse("orders.shop.mesh.internal:9090").unwrap().port, 9090);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_authority_panics_and_each_name_comes_back(
            service in "[a-z][a-z0-9]{0,8}", namespace in "[a-z][a-z0-9]{0,8}", port in 1..=u16::MAX,
            noise in "[a-zA-Z0-9.:-]{1,40}",
        ) {
            let parsed = parse(&format!("{service}.{namespace}.{ZONE}:{port}")).unwrap();
            prop_assert_eq!(parsed.service.to_string(), format!("{namespace}/{service}"));
            prop_assert_eq!(parsed.port, port);
            if let Ok(authority) = noise.parse() {
                let _ = Destination::of(Some(&authority));
            }
        }
    }
}
