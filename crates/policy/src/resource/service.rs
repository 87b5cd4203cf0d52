//! `Service`: a name that callers use, its ports, and the identities that may serve it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use identity::QualifiedName;
use serde_json::{Value, json};

use super::traffic::Traffic;
use super::{PortName, texts};
use crate::parse::{Node, ParseCode, ParseError, Shape};

/// A callable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name; callers say `<name>.<namespace>.mesh.internal`.
    pub name: QualifiedName,
    /// The workloads that may serve it: what callers verify. At least one.
    pub workloads: Vec<QualifiedName>,
    /// What can be called; at least one.
    pub ports: Vec<Port>,
    /// Addresses that are known beforehand; announced ones join them.
    pub endpoints: Vec<StaticEndpoint>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Unique in the Service.
    pub name: PortName,
    /// What callers say; unique in the Service.
    pub port: u16,
    /// Declared, never sniffed.
    pub protocol: Protocol,
    /// Default of the application's own port; an agent's local value wins.
    pub app: Option<u16>,
    /// How calls to it are spread, limited and checked.
    pub traffic: Traffic,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1 to the application.
    Http,
    /// HTTP/2 with prior knowledge to the application.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// Opaque bytes.
    Tcp,
}

/// An address of a Service that does not announce itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// An IP address or a host name, without port.
    pub address: String,
    /// Mesh-listener port for each named port; at least one.
    pub ports: BTreeMap<PortName, u16>,
    /// Where it is, for balancing.
    pub zone: Option<String>,
}

const SPEC: Shape = Shape {
    what: "the spec of a Service",
    known: &["workloads", "ports", "endpoints"],
    later: &[],
};

const PORT: Shape = Shape {
    what: "a port",
    known: &[
        "name",
        "port",
        "protocol",
        "app",
        "balance",
        "breaker",
        "bulkhead",
        "rateLimit",
        "health",
    ],
    later: &["pathProfile"],
};

const ENDPOINT: Shape = Shape {
    what: "an endpoint",
    known: &["address", "ports", "zone"],
    later: &[],
};

impl Service {
    /// The port of this name.
    pub fn port(&self, name: &PortName) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        let endpoints = fields.optional("endpoints");
        Ok(Self {
            name,
            workloads: fields
                .required("workloads")?
                .non_empty_list("name a workload that may serve it, such as shop/orders")?
                .iter()
                .map(|at| at.parsed())
                .collect::<Result<_, _>>()?,
            ports: fields
                .required("ports")?
                .non_empty_list("a Service has at least one port")?
                .iter()
                .map(Port::read)
                .collect::<Result<_, _>>()?,
            endpoints: endpoints.map_or(Ok(Vec::new()), |at| {
                at.list()?.iter().map(StaticEndpoint::read).collect()
            })?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        let mut spec = json!({
            "workloads": texts(&self.workloads),
            "ports": self.ports.iter().map(Port::to_json).collect::<Vec<_>>(),
        });
        if !self.endpoints.is_empty() {
            let endpoints = self.endpoints.iter().map(StaticEndpoint::to_json);
            spec["endpoints"] = json!(endpoints.collect::<Vec<_>>());
        }
        spec
    }
}

impl Port {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&PORT)?;
        let protocol = Protocol::read(&fields.required("protocol")?)?;
        Ok(Self {
            name: fields.required("name")?.parsed()?,
            port: fields.required("port")?.number(1)?,
            protocol,
            app: fields.optional("app").map(|at| at.number(1)).transpose()?,
            traffic: Traffic::read(&fields, protocol)?,
        })
    }

    fn to_json(&self) -> Value {
        let mut port = json!({
            "name": self.name.to_string(),
            "port": self.port,
            "protocol": self.protocol.as_str(),
        });
        if let Some(app) = self.app {
            port["app"] = json!(app);
        }
        self.traffic.write(&mut port);
        port
    }
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Http, Self::Http2, Self::Grpc, Self::Tcp];

    /// As written in a Service.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }

    /// Whether each request is judged, and not the connection.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let text = node.text()?;
        let found = Self::ALL
            .into_iter()
            .find(|protocol| protocol.as_str() == text);
        found.ok_or_else(|| {
            node.refuse(
                ParseCode::InvalidValue,
                "`protocol` must be http, http2, grpc or tcp",
            )
            .suggest_nearest(text, &Self::ALL.map(Self::as_str))
        })
    }
}

impl StaticEndpoint {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&ENDPOINT)?;
        let ports = fields.required("ports")?;
        let mut numbers = BTreeMap::new();
        for (name, at) in ports.entries("`ports` of an endpoint")? {
            let name = name
                .parse()
                .map_err(|error| at.invalid(format!("`{name}` is refused: {error}")))?;
            numbers.insert(name, at.number(1)?);
        }
        if numbers.is_empty() {
            return Err(ports.invalid("`ports` must not be empty: an endpoint serves a port"));
        }
        Ok(Self {
            address: read_address(&fields.required("address")?)?,
            ports: numbers,
            zone: fields
                .optional("zone")
                .map(|at| read_zone(&at))
                .transpose()?,
        })
    }

    fn to_json(&self) -> Value {
        let ports: BTreeMap<String, u16> = self
            .ports
            .iter()
            .map(|(name, port)| (name.to_string(), *port))
            .collect();
        let mut endpoint = json!({"address": self.address, "ports": ports});
        if let Some(zone) = &self.zone {
            endpoint["zone"] = json!(zone);
        }
        endpoint
    }
}

fn read_address(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    if text.parse::<IpAddr>().is_ok() || is_host_name(text) {
        return Ok(text.to_owned());
    }
    Err(node
        .invalid("`address` must be an IP address or a host name in small letters, without port"))
}

fn read_zone(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if text.is_empty() || text.len() > 63 || !text.bytes().all(legal) {
        let rule = "`zone` must have 1 to 63 letters, digits, `-`, `_` or `.`";
        return Err(node.invalid(rule));
    }
    Ok(text.to_owned())
}

/// An absolute path on the host of whoever obeys the object.
pub(super) fn read_file_path(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    let dots = text.split('/').any(|step| step == "." || step == "..");
    if !text.starts_with('/') || dots || text.contains('\0') || text.len() > 4095 {
        let rule = format!("`{}` must be absolute, without `.` and `..`", node.label());
        return Err(node.invalid(rule));
    }
    Ok(text.to_owned())
}

/// RFC 1123 §2.1, in small letters. The last label must not be a number, lest it be read as an
/// address that is not one.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_number
}
