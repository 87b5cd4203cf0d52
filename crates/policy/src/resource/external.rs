//! `External`: hosts outside the mesh that some workloads may call.
//!
//! What no External declares is refused by the caller's proxy, and so is a caller that `from`
//! does not name. Outside there is no identity to check, so the server proves its host name.

use identity::QualifiedName;
use serde_json::{Value, json};

use super::gateway::read_host;
use super::service::read_file_path;
use super::source::read_sources;
use super::{Kind, ObjectKey, Source};
use crate::parse::{Node, ParseError, Shape};

/// A way out of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Namespace and name.
    pub name: QualifiedName,
    /// What callers say as Host; at least one, in small letters. Each is in one External only.
    pub hosts: Vec<String>,
    /// Where the hosts listen.
    pub port: u16,
    /// How the host proves its name.
    pub tls: ExternalTls,
    /// One of these must be the caller; at least one.
    pub from: Vec<Source>,
}

/// TLS to the host. The application speaks plain HTTP to its proxy, which originates TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalTls {
    /// Who may vouch for the host's name.
    pub roots: Roots,
}

/// Certificate authorities that are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the proxy's operating system.
    System,
    /// Those of a PEM file on the proxy's host, by absolute path, and no others.
    File(String),
}

const SPEC: Shape = Shape {
    what: "the spec of an External",
    known: &["hosts", "port", "tls", "from"],
    later: &["protocol"],
};

const TLS: Shape = Shape {
    what: "`tls` of an External",
    known: &["mode", "roots"],
    later: &["certificateFile", "keyFile"],
};

const ROOTS: Shape = Shape {
    what: "`roots`",
    known: &["file"],
    later: &[],
};

/// What callers say where they leave the port out: they speak plain HTTP to their proxy.
const PLAIN: u16 = 80;

impl External {
    /// Whether a caller who says this port means this External: the declared one, or that of
    /// plain HTTP.
    pub fn is_asked_at(&self, port: u16) -> bool {
        port == PLAIN || port == self.port
    }

    /// The name under which it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(Kind::External, &self.name)
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        let hosts = fields.required("hosts")?;
        Ok(Self {
            name,
            hosts: hosts.distinct("name the host that callers say", read_host)?,
            port: fields.required("port")?.number(1)?,
            tls: ExternalTls::read(&fields.required("tls")?)?,
            from: read_sources(&fields.required("from")?)?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        let roots = match &self.tls.roots {
            Roots::System => json!("system"),
            Roots::File(path) => json!({"file": path}),
        };
        json!({
            "hosts": self.hosts,
            "port": self.port,
            "tls": {"mode": "originate", "roots": roots},
            "from": self.from.iter().map(Source::to_json).collect::<Vec<_>>(),
        })
    }
}

impl ExternalTls {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&TLS)?;
        let mode = fields.required("mode")?;
        match mode.text()? {
            "originate" => {}
            text @ ("passthrough" | "none") => {
                let message = format!("`mode: {text}` is not yet supported");
                return Err(mode.not_yet(message).suggest("originate"));
            }
            _ => {
                return Err(mode
                    .invalid("`mode` must be originate")
                    .suggest("originate"));
            }
        }
        Ok(Self {
            roots: Roots::read(&fields.required("roots")?)?,
        })
    }
}

impl Roots {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        if node.is_mapping() {
            let file = node.fields(&ROOTS)?.required("file")?;
            return read_file_path(&file).map(Self::File);
        }
        match node.text()? {
            "system" => Ok(Self::System),
            _ => Err(node
                .invalid("`roots` must be system, or {file: /path/to/roots.pem}")
                .suggest("system")),
        }
    }
}
