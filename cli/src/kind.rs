//! The kinds of thing that `get` and `delete` can name, as people write them.

use std::str::FromStr;

use identity::{Name, Namespace, QualifiedName};
use serde_json::{Value, json};
use thiserror::Error;

/// A kind in the CA's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Workload,
    Service,
    Policy,
    Baseline,
    Route,
    Gateway,
    External,
    Agent,
    Revision,
    Svid,
}

const KINDS: [(Kind, &str, &str); 10] = [
    (Kind::Workload, "workload", "workloads"),
    (Kind::Service, "service", "services"),
    (Kind::Policy, "policy", "policies"),
    (Kind::Baseline, "baseline", "baselines"),
    (Kind::Route, "route", "routes"),
    (Kind::Gateway, "gateway", "gateways"),
    (Kind::External, "external", "externals"),
    (Kind::Agent, "agent", "agents"),
    (Kind::Revision, "revision", "revisions"),
    (Kind::Svid, "svid", "svids"),
];

impl Kind {
    /// The last segment of the collection's path, as in `/v1/policies`.
    pub(crate) fn plural(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or("", |(_, _, plural)| plural)
    }

    /// Whether objects of this kind have a namespace.
    pub(crate) fn is_namespaced(self) -> bool {
        self.object_kind().is_some() && self != Self::Baseline
    }

    /// The `kind` of an object of configuration; `None` for what the CA records by itself.
    pub(crate) fn object_kind(self) -> Option<&'static str> {
        match self {
            Self::Workload => Some("Workload"),
            Self::Service => Some("Service"),
            Self::Policy => Some("Policy"),
            Self::Baseline => Some("Baseline"),
            Self::Route => Some("Route"),
            Self::Gateway => Some("Gateway"),
            Self::External => Some("External"),
            Self::Agent | Self::Revision | Self::Svid => None,
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let lower = text.to_ascii_lowercase();
        let known = KINDS
            .iter()
            .find(|(_, one, many)| lower == *one || lower == *many);
        known
            .map(|(kind, ..)| *kind)
            .ok_or_else(|| UnknownKind::new(text, &lower))
    }
}

/// A word that is no kind.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there is no kind `{given}`; {advice}")]
pub(crate) struct UnknownKind {
    given: String,
    advice: String,
}

impl UnknownKind {
    fn new(given: &str, lower: &str) -> Self {
        let names = KINDS.map(|(_, _, plural)| plural);
        let advice = match runtime::config::nearest(lower, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", names.join(", ")),
        };
        Self {
            given: given.to_owned(),
            advice,
        }
    }
}

/// The name of one object of a kind: `ns/name`, or `name` where there is no namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) name: Name,
}

impl ObjectName {
    /// Reads a name as the kind demands it; `namespace` is that of `-n`.
    pub(crate) fn parse(
        kind: Kind,
        text: &str,
        namespace: Option<&Namespace>,
    ) -> Result<Self, WrongName> {
        let wrong = || WrongName {
            given: text.to_owned(),
            wanted: wanted(kind),
        };
        if !kind.is_namespaced() {
            return text
                .parse()
                .map(|name| Self {
                    namespace: None,
                    name,
                })
                .map_err(|_| wrong());
        }
        if let (Some(namespace), false) = (namespace, text.contains('/')) {
            let name = text.parse().map_err(|_| wrong())?;
            return Ok(Self {
                namespace: Some(namespace.clone()),
                name,
            });
        }
        let QualifiedName { namespace, name } = text.parse().map_err(|_| wrong())?;
        Ok(Self {
            namespace: Some(namespace),
            name,
        })
    }

    /// The end of the object's path, as in `shop/orders`.
    pub(crate) fn path(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.to_string(),
        }
    }

    /// How a changeset names an object that goes.
    pub(crate) fn deletion(&self, object_kind: &str) -> Value {
        match &self.namespace {
            Some(namespace) => json!({
                "kind": object_kind,
                "namespace": namespace.to_string(),
                "name": self.name.to_string(),
            }),
            None => json!({ "kind": object_kind, "name": self.name.to_string() }),
        }
    }
}

/// A name that does not fit its kind.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{given}` names nothing; write {wanted}")]
pub(crate) struct WrongName {
    given: String,
    wanted: &'static str,
}

fn wanted(kind: Kind) -> &'static str {
    if kind.is_namespaced() {
        "namespace/name, lower-case letters, digits and dashes, as in shop/orders"
    } else {
        "one name without a namespace, lower-case letters, digits and dashes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_kind_is_refused_with_the_nearest() {
        let error = "polices".parse::<Kind>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no kind `polices`; did you mean `policies`?"
        );
    }

    #[test]
    fn strange_kind_is_refused_with_all_of_them() {
        let error = "pods".parse::<Kind>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("there are workloads, services, policies")
        );
    }

    #[test]
    fn singular_plural_and_object_form_all_name_the_kind() {
        assert_eq!(
            ["policy", "policies", "Policy"].map(|text| text.parse::<Kind>().unwrap()),
            [Kind::Policy; 3]
        );
    }

    #[test]
    fn workload_without_namespace_is_refused() {
        let error = ObjectName::parse(Kind::Workload, "orders", None).unwrap_err();
        assert!(error.to_string().contains("write namespace/name"));
    }

    #[test]
    fn baseline_with_namespace_is_refused() {
        assert!(ObjectName::parse(Kind::Baseline, "shop/org", None).is_err());
    }

    #[test]
    fn namespace_option_completes_a_bare_name() {
        let shop: Namespace = "shop".parse().unwrap();
        let name = ObjectName::parse(Kind::Service, "orders", Some(&shop)).unwrap();
        assert_eq!(name.path(), "shop/orders");
    }
}
