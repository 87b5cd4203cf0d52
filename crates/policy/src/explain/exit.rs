//! Whether a workload may call a host outside the mesh, by which External, and if not, why.
//!
//! Invariant: whom `from` names, and which ports are the declared one, is said by what the
//! proxies themselves ask.

use identity::SpiffeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{shown_caller_of, shown_source};
use crate::resource::External;
use crate::snapshot::PolicySnapshot;

/// How alike two hosts are that may have been confused.
const ALIKE: f64 = 0.8;

/// A call of a workload to a host that is not of the mesh.
#[derive(Debug, Clone, Copy)]
pub struct Departure<'a> {
    /// Whose identity the caller has.
    pub source: &'a SpiffeId,
    /// Compared without regard to case and a final dot.
    pub host: &'a str,
    /// As callers write it behind the host; none if they leave it out.
    pub port: Option<u16>,
}

/// What becomes of a call to a host outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitExplanation {
    /// `allow` or `deny`.
    pub verdict: String,
    /// Only with `deny`: `no-route`, or `indeterminate` where nothing can be decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same in a sentence.
    pub message: String,
    /// The caller's SPIFFE ID.
    pub source: String,
    /// As it was compared.
    pub host: String,
    /// `External shop/payments`, if one declares the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Where the host is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How it proves its name, as the External says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Value>,
    /// The configuration that was asked.
    pub revision: String,
    /// What would have to be different.
    pub nearest_misses: Vec<ExitMiss>,
}

/// A condition of an External that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitMiss {
    /// `External shop/payments`.
    pub object: String,
    /// `host`, `port` or `from`.
    pub condition: String,
    /// What the External wants there.
    pub wanted: String,
    /// What the call has.
    pub got: String,
}

impl PolicySnapshot {
    /// What becomes of a call to a host outside the mesh.
    pub fn explain_exit(&self, departure: &Departure<'_>) -> ExitExplanation {
        let host = departure.host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let mut externals = self.externals();
        let external = externals.find(|it| it.hosts.iter().any(|it| it == host));
        let nearest_misses = match external {
            Some(external) => self.exit_misses(external, departure),
            None => self.alike(host).into_iter().collect(),
        };
        let is_open = external.is_some() && nearest_misses.is_empty();
        let reason = match self.indeterminate() {
            Some(_) => Some("indeterminate"),
            None => (!is_open).then_some("no-route"),
        };
        ExitExplanation {
            verdict: if is_open { "allow" } else { "deny" }.to_owned(),
            reason: reason.map(str::to_owned),
            message: self.exit_message(external.map(|it| &**it), host, &nearest_misses),
            source: departure.source.to_string(),
            host: host.to_owned(),
            object: external.map(|it| it.key().to_string()),
            port: external.map(|it| it.port),
            tls: external.map(|it| it.spec()["tls"].take()),
            revision: self.revision().to_string(),
            nearest_misses,
        }
    }

    fn exit_misses(&self, external: &External, departure: &Departure<'_>) -> Vec<ExitMiss> {
        let miss = |condition: &str, wanted: String, got: String| ExitMiss {
            object: external.key().to_string(),
            condition: condition.to_owned(),
            wanted,
            got,
        };
        let from = (!self.names_caller(&external.from, departure.source)).then(|| {
            let wanted: Vec<_> = external.from.iter().map(shown_source).collect();
            miss(
                "from",
                wanted.join(", "),
                shown_caller_of(self, departure.source),
            )
        });
        let other = departure.port.filter(|port| !external.is_asked_at(*port));
        let port = other.map(|port| {
            let wanted = format!("{}, or none", external.port);
            miss("port", wanted, port.to_string())
        });
        from.into_iter().chain(port).collect()
    }

    /// A declared host that may have been meant.
    fn alike(&self, host: &str) -> Option<ExitMiss> {
        let hosts = self.externals().flat_map(|external| {
            let hosts = external.hosts.iter();
            hosts.map(move |declared| (external, declared))
        });
        let likeness = |declared: &str| strsim::normalized_damerau_levenshtein(declared, host);
        let (external, declared) = hosts
            .filter(|(_, declared)| likeness(declared) >= ALIKE)
            .max_by(|(_, one), (_, other)| likeness(one).total_cmp(&likeness(other)))?;
        Some(ExitMiss {
            object: external.key().to_string(),
            condition: "host".to_owned(),
            wanted: declared.clone(),
            got: host.to_owned(),
        })
    }

    fn exit_message(&self, external: Option<&External>, host: &str, misses: &[ExitMiss]) -> String {
        if let Some(why) = self.indeterminate() {
            return format!("everything is denied: {why}");
        }
        let Some(external) = external else {
            return format!("no External declares {host}");
        };
        let object = external.key();
        let conditions: Vec<_> = misses.iter().map(|it| it.condition.as_str()).collect();
        match conditions.as_slice() {
            [] => format!("{object} declares {host}, and its `from` names the caller"),
            ["port"] => format!("{object} declares {host} with another port"),
            _ => format!("{object} declares {host}, and its `from` does not name the caller"),
        }
    }
}

#[cfg(test)]
mod tests;
