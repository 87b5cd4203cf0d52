//! `Gateway`: a way into the mesh for callers that have no identity in it.
//!
//! The gateway calls with its own SVID, so the destination's Policy judges the gateway's workload,
//! never what an outside caller says of itself.

use identity::QualifiedName;
use serde_json::{Value, json};

use super::service::{is_host_name, read_file_path};
use super::{HttpMatch, Kind, ObjectKey, PortName, http_match, texts};
use crate::parse::{Node, ParseError, Shape};

/// Listeners that the proxies of some workloads open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Namespace and name.
    pub name: QualifiedName,
    /// The workloads whose proxies listen; at least one.
    pub workloads: Vec<QualifiedName>,
    /// At least one.
    pub listeners: Vec<GatewayListener>,
}

/// TLS on one port, for some hosts. Listeners of one port have no host in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayListener {
    /// Unique in the Gateway.
    pub name: PortName,
    /// Where the proxy listens.
    pub port: u16,
    /// Compared with the server name of the TLS handshake and with Host; at least one, in small
    /// letters.
    pub hosts: Vec<String>,
    /// Shown to callers.
    pub tls: CertificateFiles,
    /// At least one; the most specific match decides, and what none matches is refused.
    pub routes: Vec<GatewayRoute>,
}

/// PEM files on the proxy's host, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// An absolute path: the leaf first.
    pub certificate: String,
    /// An absolute path.
    pub key: String,
}

/// Where matching requests go. The Service's own Route holds after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRoute {
    /// `None`: every request.
    pub matching: Option<HttpMatch>,
    /// A Service of any namespace.
    pub service: QualifiedName,
    /// Its port; never of protocol `tcp`.
    pub port: PortName,
}

const SPEC: Shape = Shape {
    what: "the spec of a Gateway",
    known: &["workloads", "listeners"],
    later: &[],
};

const LISTENER: Shape = Shape {
    what: "a listener",
    known: &["name", "port", "hosts", "tls", "routes"],
    later: &[],
};

const TLS: Shape = Shape {
    what: "`tls` of a listener",
    known: &["certificateFile", "keyFile"],
    later: &["acme", "clientCertificates"],
};

const ROUTE: Shape = Shape {
    what: "a route of a listener",
    known: &["path", "methods", "headers", "service", "port"],
    later: &[],
};

impl Gateway {
    /// The name under which it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(Kind::Gateway, &self.name)
    }

    /// Every Service that requests may go to; some may occur more than once.
    pub fn destinations(&self) -> impl Iterator<Item = &QualifiedName> {
        let routes = self.listeners.iter().flat_map(|listener| &listener.routes);
        routes.map(|route| &route.service)
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        Ok(Self {
            name,
            workloads: fields
                .required("workloads")?
                .distinct("name the workload whose proxy listens", Node::parsed)?,
            listeners: fields
                .required("listeners")?
                .non_empty_list("a Gateway has at least one listener")?
                .iter()
                .map(GatewayListener::read)
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        let listeners = self.listeners.iter().map(GatewayListener::to_json);
        json!({
            "workloads": texts(&self.workloads),
            "listeners": listeners.collect::<Vec<_>>(),
        })
    }
}

impl GatewayListener {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&LISTENER)?;
        let hosts = fields.required("hosts")?;
        Ok(Self {
            name: fields.required("name")?.parsed()?,
            port: fields.required("port")?.number(1)?,
            hosts: hosts.distinct("name the host that callers say", read_host)?,
            tls: CertificateFiles::read(&fields.required("tls")?)?,
            routes: fields
                .required("routes")?
                .non_empty_list("without a route every request is refused")?
                .iter()
                .map(GatewayRoute::read)
                .collect::<Result<_, _>>()?,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name.to_string(),
            "port": self.port,
            "hosts": self.hosts,
            "tls": {"certificateFile": self.tls.certificate, "keyFile": self.tls.key},
            "routes": self.routes.iter().map(GatewayRoute::to_json).collect::<Vec<_>>(),
        })
    }
}

impl CertificateFiles {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&TLS)?;
        Ok(Self {
            certificate: read_file_path(&fields.required("certificateFile")?)?,
            key: read_file_path(&fields.required("keyFile")?)?,
        })
    }
}

impl GatewayRoute {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&ROUTE)?;
        Ok(Self {
            matching: http_match::read_stated(&fields)?,
            service: fields.required("service")?.parsed()?,
            port: fields.required("port")?.parsed()?,
        })
    }

    fn to_json(&self) -> Value {
        let matching = self.matching.as_ref();
        let mut route = matching.map_or_else(|| json!({}), HttpMatch::to_json);
        route["service"] = json!(self.service.to_string());
        route["port"] = json!(self.port.to_string());
        route
    }
}

pub(super) fn read_host(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    if is_host_name(text) {
        return Ok(text.to_owned());
    }
    let refusal = node.invalid("a host is a DNS name in small letters, without port or wildcard");
    let small = text.to_ascii_lowercase();
    Err(if is_host_name(&small) {
        refusal.suggest(small)
    } else {
        refusal
    })
}
