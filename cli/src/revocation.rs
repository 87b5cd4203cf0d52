//! `countersign revoke` and `countersign revocation`: who is refused although the certificate
//! verifies, and when everybody refused.
//!
//! Invariant: what is revoked is named in full, with a reason; how far the mesh has come is the CA's
//! word, never a guess.

use clap::{Args, Subcommand};
use identity::{AgentId, IdTemplate, QualifiedName, SerialNumber, SpiffeId, TrustDomain};
use runtime::exit::Usage;
use serde_json::{Value, json};

use crate::admin::{AdminArguments, Client};
use crate::output::{self, Format, OutputArguments, Table, cell};

const PATH: &str = "/v1/revocations";
/// Of agents that have not acknowledged, so many are named.
const NAMED: usize = 3;

/// Refuse an identity, a certificate, an authority or an agent everywhere, at once
///
/// New handshakes are refused, live connections are cut, and nothing more is issued to who is
/// revoked. Waits until every connected agent has acknowledged it, and says how long that took.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign revoke identity shop/orders --reason 'key on a lost disk'
  countersign revoke serial 5f0c…9a --reason 'leaked core dump'
  countersign revoke authority 3d41…07 --reason 'host of ca-2 broken into'
  countersign revoke agent x509pop/web-7 --reason 'disk sold with its keys'")]
pub(crate) struct Revoke {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Whatever certificate shows it, until the revocation is lifted; nothing more is issued to it
    Identity(Wish),
    /// One certificate, until it ends; the next one is good
    Serial(Wish),
    /// All that an intermediate or a root has signed; `authority list -o json` shows its key
    Authority(Wish),
    /// All that was issued through an agent; it is banned, until that is lifted
    Agent(Wish),
}

#[derive(Debug, Args)]
struct Wish {
    /// namespace/name or a SPIFFE ID; a serial number; the SHA-256 of a key; attestor/name
    subject: String,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Also where live proxies or agents are too old to obey
    #[arg(long)]
    force: bool,
    /// Do not wait until it is enforced
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Show what is revoked, and lift it
#[derive(Debug, Args)]
pub(crate) struct Revocation {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Lift(Lift),
}

/// List what is revoked, by whom and why
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Lift a revocation, as `list` shows it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  countersign revocation lift identity shop/orders --reason 'disk found'")]
struct Lift {
    /// identity, serial, authority or agent
    kind: String,
    /// As for `revoke`
    subject: String,
    /// Why, for whoever reads the revisions
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not wait until it is enforced
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl Revoke {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.what {
            What::Identity(wish) => wish.revoke("identity").await,
            What::Serial(wish) => wish.revoke("serial").await,
            What::Authority(wish) => wish.revoke("authority").await,
            What::Agent(wish) => wish.revoke("agent").await,
        }
    }
}

impl Wish {
    async fn revoke(&self, kind: &str) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let request = json!({
            "kind": kind,
            "subject": subject(&client, kind, &self.subject).await?,
            "reason": self.reason,
            "force": self.force,
        });
        let mut revoked = client.post(PATH, &request).await?;
        let said = format!("{kind} {} is revoked", cell(&revoked, "/subject"));
        if let Some(how) = spooled(&revoked) {
            output::remark(&format!("{said}; {how}"));
            return self.print(&revoked);
        }
        output::remark(&format!("{said}; {}", hits(&revoked)));
        if !self.detach {
            revoked["enforcement"] = enforced(&client, &revoked).await?;
            output::remark(&told(&revoked["enforcement"]));
        }
        self.print(&revoked)
    }

    fn print(&self, revoked: &Value) -> anyhow::Result<()> {
        match self.output.format {
            Format::Table => Ok(()),
            format => output::print(format, revoked, |_| String::new()),
        }
    }
}

impl Revocation {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::List(list) => list.run().await,
            Action::Lift(lift) => lift.run().await,
        }
    }
}

impl List {
    async fn run(&self) -> anyhow::Result<()> {
        let list = self.admin.client()?.get(PATH).await?;
        let none = list["items"].as_array().is_none_or(Vec::is_empty);
        if self.output.format == Format::Table && none {
            output::remark("nothing is revoked");
            return Ok(());
        }
        output::print(self.output.format, &list, table)
    }
}

impl Lift {
    async fn run(&self) -> anyhow::Result<()> {
        let client = self.admin.client()?;
        let subject = subject(&client, &self.kind, &self.subject).await?;
        let mut path = path(&self.kind, &subject);
        if let Some(reason) = &self.reason {
            path = format!("{path}?reason={}", encoded(reason));
        }
        let lifted = client.delete(&path).await?;
        output::remark(&format!("{} {subject} is no longer revoked", self.kind));
        if !self.detach {
            output::remark(&told(&enforced(&client, &lifted).await?));
        }
        Ok(())
    }
}

/// Where one revocation is.
pub(crate) fn path(kind: &str, subject: &str) -> String {
    format!("{PATH}/{}/{}", encoded(kind), encoded(subject))
}

/// How far the revision of an answer has come, after a while at most.
pub(crate) async fn enforced(client: &Client, answer: &Value) -> anyhow::Result<Value> {
    let revision = cell(answer, "/revision");
    let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=10000");
    Ok(client.get(&path).await?["enforcement"].clone())
}

/// The certificates that a revocation hits, in words.
pub(crate) fn hits(revoked: &Value) -> String {
    match revoked["liveSvids"].as_u64() {
        None | Some(0) => "no live certificate is hit".to_owned(),
        Some(1) => format!(
            "1 live certificate is hit, which ends {}",
            cell(revoked, "/liveUntil")
        ),
        Some(count) => format!(
            "{count} live certificates are hit, the last of which ends {}",
            cell(revoked, "/liveUntil")
        ),
    }
}

/// What was accepted while the store was away, in words; `None` of what is recorded.
pub(crate) fn spooled(revoked: &Value) -> Option<String> {
    if revoked["spooled"] != true {
        return None;
    }
    let said = "the store is away: it is spooled by the replica that answered, which and whose agents \
                obey it, and takes effect everywhere when the store is back";
    let later = revoked["refusedLater"].as_array().map_or(0, Vec::len);
    Some(match later {
        0 => said.to_owned(),
        _ => format!(
            "{said}; until then certificates for {} go on, which other agents may hold too",
            cell(revoked, "/refusedLater")
        ),
    })
}

/// How far a revision has come, in words.
pub(crate) fn told(enforcement: &Value) -> String {
    if let Some(milliseconds) = enforcement["milliseconds"].as_u64() {
        return format!(
            "every connected agent and its proxies had acknowledged it at {}, {milliseconds} ms after \
             the commit",
            cell(enforcement, "/enforcedAt")
        );
    }
    let pending = enforcement["pending"].as_array();
    let pending = pending.map_or(&[][..], Vec::as_slice);
    let replicas = enforcement["pendingReplicas"].as_array();
    let replicas: Vec<_> = replicas.into_iter().flatten().map(at_replica).collect();
    let at = match replicas.is_empty() {
        true => String::new(),
        false => format!("; at other replicas: {}", replicas.join(", ")),
    };
    if pending.is_empty() {
        return format!("not every agent is known to have acknowledged it yet{at}");
    }
    let named: Vec<_> = pending.iter().take(NAMED).map(|it| cell(it, "")).collect();
    let more = match pending.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("not acknowledged yet by {}{more}{at}", named.join(", "))
}

fn at_replica(pending: &Value) -> String {
    let name = cell(pending, "/replica");
    match pending["agents"].as_u64() {
        None => format!("{name} has not said"),
        Some(1) => format!("1 agent at {name}"),
        Some(agents) => format!("{agents} agents at {name}"),
    }
}

/// What a person wrote, in full.
async fn subject(client: &Client, kind: &str, text: &str) -> anyhow::Result<String> {
    let trust_domain = client.trust_domain();
    match kind {
        "agent" => agent(trust_domain, text),
        "serial" => text
            .to_ascii_lowercase()
            .replace(':', "")
            .parse()
            .map(|serial: SerialNumber| serial.to_string())
            .map_err(|error| Usage(format!("`{text}`: {error}")).into()),
        "authority" => Ok(text.to_ascii_lowercase()),
        "identity" if text.contains("://") => match text.parse::<SpiffeId>() {
            Ok(id) => Ok(id.to_string()),
            Err(error) => Err(Usage(format!("`{text}`: {error}")).into()),
        },
        "identity" => identity(client, text).await,
        other => {
            let text = format!("`{other}` is not revoked: identity, serial, authority or agent is");
            Err(Usage(text).into())
        }
    }
}

fn agent(trust_domain: &TrustDomain, text: &str) -> anyhow::Result<String> {
    let agent = match text.split_once('/') {
        Some((attestor, name)) if !text.contains("://") => {
            AgentId::new(trust_domain, attestor, name)
        }
        _ => text.parse::<AgentId>(),
    };
    agent.map(|agent| agent.to_string()).map_err(|_| {
        let text = format!("`{text}` names no agent; write attestor/name, as in join-token/web-7");
        Usage(text).into()
    })
}

/// Of a workload by its name: one that is registered says so itself where its identity does not
/// follow the template.
async fn identity(client: &Client, text: &str) -> anyhow::Result<String> {
    let name: QualifiedName = text.parse().map_err(|_| {
        let text = format!("`{text}` names no workload; write namespace/name, or a SPIFFE ID");
        Usage(text)
    })?;
    let path = format!("/v1/workloads/{}/{}", name.namespace, name.name);
    match client.get(&path).await {
        Ok(workload) if workload["spec"]["spiffeId"].is_string() => {
            return Ok(cell(&workload, "/spec/spiffeId"));
        }
        Err(error) if error.status() != Some(404) => {
            let what = format!("cannot look up {text}; its SPIFFE ID needs no look");
            return Err(anyhow::Error::from(error).context(what));
        }
        _ => {}
    }
    let about = client.get("/v1/about").await?;
    let template: IdTemplate = cell(&about, "/idTemplate").parse()?;
    Ok(template.id(client.trust_domain(), &name).to_string())
}

/// RFC 3986 section 2.1.
fn encoded(text: &str) -> String {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match unreserved(byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn table(list: &Value) -> String {
    let mut table = Table::new(&["KIND", "SUBJECT", "SINCE", "UNTIL", "LIVE", "REASON"]);
    for item in list["items"].as_array().into_iter().flatten() {
        let until = match item["expiresAt"].is_null() {
            true => "lifted".to_owned(),
            false => cell(item, "/expiresAt"),
        };
        table.row([
            cell(item, "/kind"),
            cell(item, "/subject"),
            cell(item, "/createdAt"),
            until,
            cell(item, "/liveSvids"),
            cell(item, "/reason"),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_path_is_encoded() {
        assert_eq!(
            path("identity", "spiffe://a.example/ns/x y"),
            "/v1/revocations/identity/spiffe%3A%2F%2Fa.example%2Fns%2Fx%20y"
        );
    }

    #[test]
    fn how_far_a_revision_has_come_is_said_as_the_ca_says_it() {
        let pending = json!({"pending": ["a", "b", "c", "d"], "enforcedAt": null});
        assert_eq!(told(&pending), "not acknowledged yet by a, b, c and 1 more");
        let enforced =
            json!({"pending": [], "enforcedAt": "2030-01-01T00:00:00Z", "milliseconds": 12});
        assert!(told(&enforced).contains("2030-01-01T00:00:00Z, 12 ms after"));
        let elsewhere = json!({"pending": [], "enforcedAt": null, "milliseconds": null});
        assert!(told(&elsewhere).starts_with("not every agent"));
        let replicas =
            json!([{"replica": "ca-2", "agents": 3}, {"replica": "ca-3", "agents": null}]);
        let elsewhere = json!({"pending": ["a"], "pendingReplicas": replicas});
        assert_eq!(
            told(&elsewhere),
            "not acknowledged yet by a; at other replicas: 3 agents at ca-2, ca-3 has not said"
        );
    }

    #[test]
    fn what_is_spooled_is_said_to_be_and_what_goes_on_until_then() {
        assert_eq!(spooled(&json!({"revision": "1-2"})), None);
        let ban = json!({"spooled": true, "refusedLater": ["spiffe://a.example/ns/a/sa/b"]});
        let said = spooled(&ban).unwrap();
        assert!(
            said.contains("is spooled") && said.contains("ns/a/sa/b"),
            "{said}"
        );
    }

    #[test]
    fn what_a_revocation_hits_is_counted_in_words() {
        assert_eq!(hits(&json!({"liveSvids": 0})), "no live certificate is hit");
        let two = json!({"liveSvids": 2, "liveUntil": "2030-01-01T00:00:00Z"});
        assert!(hits(&two).starts_with("2 live certificates are hit"));
    }
}
