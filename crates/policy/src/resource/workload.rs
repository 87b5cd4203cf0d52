//! `Workload`: an identity, the agents that may hold it, and how an agent recognises its holder.

use std::time::Duration;

use crypto::digest::Sha256;
use identity::{QualifiedName, SpiffeId};
use serde_json::{Value, json};

use super::agents::{AgentSelectors, NamedAgents};
use super::service::{is_host_name, read_file_path};
use crate::parse::{Node, ParseError, Shape};

/// The longest life of a leaf: that of the intermediate which signs it.
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of `agents` that name others than single agents.
const MOST_BY_ATTESTOR: usize = 32;

/// An entry of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Namespace and name.
    pub name: QualifiedName,
    /// Instead of the ID that the trust domain's template gives.
    pub spiffe_id: Option<SpiffeId>,
    /// The agents that may hold it; the CA issues to no other. May be empty at first.
    pub agents: Vec<NamedAgents>,
    /// How an agent recognises the process.
    pub selectors: Box<Selectors>,
    /// Life of its leaves, in whole seconds up to 24 h; the mesh's default when `None`.
    pub ttl: Option<Duration>,
    /// DNS names in its certificate.
    pub dns_names: Vec<String>,
    /// Passed to the workload, which may hold several identities (Workload API §5.2.2).
    pub hint: Option<String>,
    /// What its keys are.
    pub key_type: KeyType,
}

/// What must hold of a process. At least one is stated; all stated must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors {
    /// By the kernel's word on the caller of the socket.
    pub unix: Option<UnixSelector>,
    /// By the unit of the host's service manager.
    pub systemd: Option<SystemdSelector>,
    /// By the container that it runs in.
    pub container: Option<ContainerSelector>,
}

/// A process by the systemd unit that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdSelector {
    /// A service or a scope of the system's manager, never of a user's.
    pub unit: String,
}

/// A process by its container; what is stated must hold, and something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSelector {
    /// 64 lower-case hexadecimal digits.
    pub id: Option<String>,
    /// UID of the Kubernetes pod.
    pub pod: Option<String>,
}

/// A process by its user, and optionally narrowed by group and executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSelector {
    /// The user it runs as.
    pub uid: u32,
    /// The group it runs as.
    pub gid: Option<u32>,
    /// Absolute path of its executable.
    pub path: Option<String>,
    /// Digest of its executable.
    pub sha256: Option<Sha256>,
}

/// The kind of a workload's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    EcP256,
}

const SPEC: Shape = Shape {
    what: "the spec of a Workload",
    known: &[
        "spiffeId",
        "agents",
        "selectors",
        "ttl",
        "dnsNames",
        "hint",
        "keyType",
    ],
    later: &["federatesWith"],
};

const SELECTORS: Shape = Shape {
    what: "`selectors`",
    known: &["unix", "systemd", "container"],
    later: &[],
};

const SYSTEMD: Shape = Shape {
    what: "`systemd`",
    known: &["unit"],
    later: &[],
};

const CONTAINER: Shape = Shape {
    what: "`container`",
    known: &["id", "pod"],
    later: &["image"],
};

const UNIX: Shape = Shape {
    what: "`unix`",
    known: &["uid", "gid", "path", "sha256"],
    later: &[],
};

impl Workload {
    /// Whether an entry names the agent with this ID, of which its attestor said `held`.
    pub fn is_held_by(&self, agent: &SpiffeId, held: &AgentSelectors) -> bool {
        self.agents.iter().any(|entry| entry.names(agent, held))
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        let key_type = fields.optional("keyType");
        Ok(Self {
            name,
            spiffe_id: fields
                .optional("spiffeId")
                .map(|at| at.parsed())
                .transpose()?,
            agents: read_agents(fields.optional("agents"))?,
            selectors: Box::new(Selectors::read(&fields.required("selectors")?)?),
            ttl: fields.optional("ttl").map(|at| read_ttl(&at)).transpose()?,
            dns_names: list_of(fields.optional("dnsNames"), read_dns_name)?,
            hint: fields
                .optional("hint")
                .map(|at| read_hint(&at))
                .transpose()?,
            key_type: match key_type {
                Some(at) => KeyType::read(&at)?,
                None => KeyType::default(),
            },
        })
    }

    pub(crate) fn spec(&self) -> Value {
        let mut spec = json!({
            "selectors": self.selectors.to_json(),
            "keyType": self.key_type.as_str(),
        });
        if let Some(id) = &self.spiffe_id {
            spec["spiffeId"] = json!(id.as_str());
        }
        if !self.agents.is_empty() {
            spec["agents"] = self.agents.iter().map(NamedAgents::to_json).collect();
        }
        if let Some(ttl) = self.ttl {
            spec["ttl"] = json!(humantime::format_duration(ttl).to_string());
        }
        if !self.dns_names.is_empty() {
            spec["dnsNames"] = json!(self.dns_names);
        }
        if let Some(hint) = &self.hint {
            spec["hint"] = json!(hint);
        }
        spec
    }
}

impl Selectors {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SELECTORS)?;
        let (unix, systemd) = (fields.optional("unix"), fields.optional("systemd"));
        let container = fields.optional("container");
        let selectors = Self {
            unix: unix.map(|at| UnixSelector::read(&at)).transpose()?,
            systemd: systemd.map(|at| SystemdSelector::read(&at)).transpose()?,
            container: container
                .map(|at| ContainerSelector::read(&at))
                .transpose()?,
        };
        if selectors.is_empty() {
            // Nobody is recognised by nothing.
            fields.required("unix")?;
        }
        Ok(selectors)
    }

    fn is_empty(&self) -> bool {
        self.unix.is_none() && self.systemd.is_none() && self.container.is_none()
    }

    fn to_json(&self) -> Value {
        let mut selectors = json!({});
        if let Some(unix) = &self.unix {
            selectors["unix"] = unix.to_json();
        }
        if let Some(systemd) = &self.systemd {
            selectors["systemd"] = json!({"unit": systemd.unit});
        }
        if let Some(container) = &self.container {
            selectors["container"] = container.to_json();
        }
        selectors
    }
}

impl SystemdSelector {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let at = node.fields(&SYSTEMD)?.required("unit")?;
        let unit = at.text()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@\\-".contains(&byte);
        let kind = unit.ends_with(".service") || unit.ends_with(".scope");
        let users = unit.starts_with("user@");
        if unit.len() > 255 || !kind || users || !unit.bytes().all(plain) {
            let rule = "`unit` is a service or a scope of the system's manager, by its full name";
            return Err(at.invalid(rule).suggest("orders.service"));
        }
        Ok(Self {
            unit: unit.to_owned(),
        })
    }
}

impl ContainerSelector {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&CONTAINER)?;
        let selector = Self {
            id: fields
                .optional("id")
                .map(|at| read_container_id(&at))
                .transpose()?,
            pod: fields
                .optional("pod")
                .map(|at| read_pod_uid(&at))
                .transpose()?,
        };
        if selector.id.is_none() && selector.pod.is_none() {
            fields.required("id")?;
        }
        Ok(selector)
    }

    fn to_json(&self) -> Value {
        let mut container = json!({});
        if let Some(id) = &self.id {
            container["id"] = json!(id);
        }
        if let Some(pod) = &self.pod {
            container["pod"] = json!(pod);
        }
        container
    }
}

fn read_container_id(node: &Node<'_>) -> Result<String, ParseError> {
    let id = node.text()?;
    if id.len() != 64 || !is_lower_hex(id) {
        return Err(node.invalid("`id` has 64 lower-case hexadecimal digits, the whole id"));
    }
    Ok(id.to_owned())
}

fn read_pod_uid(node: &Node<'_>) -> Result<String, ParseError> {
    let uid = node.text()?;
    let digits = uid.replace('-', "");
    if digits.len() != 32 || !is_lower_hex(&digits) {
        return Err(node.invalid("`pod` is the UID of a pod, in lower case"));
    }
    Ok(uid.to_owned())
}

fn is_lower_hex(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(hex)
}

impl UnixSelector {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&UNIX)?;
        Ok(Self {
            uid: fields.required("uid")?.number(0)?,
            gid: fields.optional("gid").map(|at| at.number(0)).transpose()?,
            path: fields
                .optional("path")
                .map(|at| read_file_path(&at))
                .transpose()?,
            sha256: fields
                .optional("sha256")
                .map(|at| at.parsed())
                .transpose()?,
        })
    }

    fn to_json(&self) -> Value {
        let mut unix = json!({"uid": self.uid});
        if let Some(gid) = self.gid {
            unix["gid"] = json!(gid);
        }
        if let Some(path) = &self.path {
            unix["path"] = json!(path);
        }
        if let Some(sha256) = &self.sha256 {
            unix["sha256"] = json!(sha256.to_string());
        }
        unix
    }
}

impl KeyType {
    /// As written in a Workload.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
        }
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        match node.text()? {
            "ec-p256" => Ok(Self::EcP256),
            "ec-p384" | "ec-p521" | "rsa-2048" | "rsa-3072" | "rsa-4096" | "ed25519" => {
                let message = "`keyType` other than ec-p256 is not yet supported";
                Err(node.not_yet(message).suggest("ec-p256"))
            }
            _ => Err(node.invalid("`keyType` must be ec-p256").suggest("ec-p256")),
        }
    }
}

/// A list without repetitions; nothing when it is left out.
fn list_of<T: PartialEq>(
    node: Option<Node<'_>>,
    read: impl Fn(&Node<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut values = Vec::new();
    for at in node.map_or(Ok(Vec::new()), |node| node.list())? {
        let value = read(&at)?;
        if values.contains(&value) {
            return Err(at.duplicate("this entry is already in the list"));
        }
        values.push(value);
    }
    Ok(values)
}

fn read_agents(node: Option<Node<'_>>) -> Result<Vec<NamedAgents>, ParseError> {
    let agents = list_of(node.clone(), NamedAgents::read)?;
    let by_attestor = |entry: &&NamedAgents| matches!(entry, NamedAgents::Of(_));
    if let Some(node) = node
        && agents.iter().filter(by_attestor).count() > MOST_BY_ATTESTOR
    {
        let rule = format!("`agents` has at most {MOST_BY_ATTESTOR} entries with an attestor");
        return Err(node.invalid(rule));
    }
    Ok(agents)
}

fn read_ttl(node: &Node<'_>) -> Result<Duration, ParseError> {
    let ttl = humantime::parse_duration(node.text()?).map_err(|error| {
        node.invalid(format!("`ttl` is no duration: {error}"))
            .suggest("1h")
    })?;
    if ttl.subsec_nanos() != 0 || ttl.is_zero() || ttl > LONGEST_TTL {
        return Err(node
            .invalid("`ttl` must be whole seconds, from 1s to 24h")
            .suggest("1h"));
    }
    Ok(ttl)
}

fn read_dns_name(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    if !is_host_name(text) {
        let rule = "a DNS name has labels of a-z, 0-9 and inner hyphens, and no wildcard";
        return Err(node.invalid(rule));
    }
    Ok(text.to_owned())
}

fn read_hint(node: &Node<'_>) -> Result<String, ParseError> {
    let text = node.text()?;
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(node.invalid("`hint` must have 1 to 255 bytes and no control characters"));
    }
    Ok(text.to_owned())
}
