//! What a revocation is of.

use std::fmt;

use crypto::digest::Sha256;
use identity::x509::Denied;
use identity::{AgentId, SerialNumber, SpiffeId};

/// Its text is the same everywhere: in the store, in paths of REST, on the command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationSubject {
    /// An agent: it neither attests nor renews, and what was issued through it is refused.
    Agent(SpiffeId),
    /// An identity, whatever certificate shows it; nothing more is issued to it.
    Identity(SpiffeId),
    /// One certificate.
    Serial(SerialNumber),
    /// All that an authority stands above, by the SHA-256 of its public key.
    Authority(Sha256),
}

/// Why something cannot be revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("what is revoked is an agent, an identity, a serial or an authority, not `{0}`")]
    Kind(String),
    #[error("`{0}` is no SPIFFE ID of an agent")]
    Agent(String),
    #[error("`{0}` is no SPIFFE ID of a workload")]
    Identity(String),
    #[error("`{0}` is no serial number: pairs of lower-case hexadecimal digits")]
    Serial(String),
    #[error("`{0}` is no authority's key: the SHA-256 of its public key, 64 hexadecimal digits")]
    Authority(String),
}

impl RevocationSubject {
    /// # Errors
    /// The kind is not known, or the text is not one of that kind.
    pub fn parse(kind: &str, text: &str) -> Result<Self, SubjectError> {
        let owned = || text.to_owned();
        match kind {
            "agent" => text
                .parse()
                .map(|agent: AgentId| Self::Agent(agent.spiffe_id().clone()))
                .map_err(|_| SubjectError::Agent(owned())),
            "identity" => text
                .parse()
                .ok()
                .filter(|id: &SpiffeId| !id.path().is_empty())
                .map(Self::Identity)
                .ok_or_else(|| SubjectError::Identity(owned())),
            "serial" => text
                .parse()
                .map(Self::Serial)
                .map_err(|_| SubjectError::Serial(owned())),
            "authority" => text
                .parse()
                .map(Self::Authority)
                .map_err(|_| SubjectError::Authority(owned())),
            other => Err(SubjectError::Kind(other.to_owned())),
        }
    }

    /// `agent`, `identity`, `serial` or `authority`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Identity(_) => "identity",
            Self::Serial(_) => "serial",
            Self::Authority(_) => "authority",
        }
    }

    /// What a deny-list says of it; of an agent it names what was issued through it instead.
    #[must_use]
    pub fn denied(&self) -> Option<Denied> {
        match self {
            Self::Agent(_) => None,
            Self::Identity(id) => Some(Denied::Identity(id.clone())),
            Self::Serial(serial) => Some(Denied::Serial(*serial)),
            Self::Authority(key) => Some(Denied::Authority(*key)),
        }
    }
}

impl fmt::Display for RevocationSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) | Self::Identity(id) => id.fmt(f),
            Self::Serial(serial) => serial.fmt(f),
            Self::Authority(key) => key.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_of_another_kind_is_refused() {
        let (workload, agent) = (
            "spiffe://a.example/ns/shop/sa/orders",
            "spiffe://a.example/countersign/agent/join-token/web-7",
        );
        for (kind, text) in [
            ("agent", workload),
            ("identity", "spiffe://a.example"),
            ("serial", agent),
            ("authority", "0a"),
        ] {
            let refused = RevocationSubject::parse(kind, text).unwrap_err();
            assert!(refused.to_string().contains(text), "{refused}");
        }
        assert_eq!(
            RevocationSubject::parse("Agent", agent),
            Err(SubjectError::Kind("Agent".to_owned()))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_subject_reads_back_as_what_it_is(name in "[a-z]{1,8}", key: [u8; 32], serial in 1u32..) {
            let agent = format!("spiffe://a.example/countersign/agent/join-token/{name}");
            let identity = format!("spiffe://a.example/ns/shop/sa/{name}");
            for subject in [
                RevocationSubject::Agent(agent.parse().unwrap()),
                RevocationSubject::Identity(identity.parse().unwrap()),
                RevocationSubject::Serial(SerialNumber::from_bytes(&serial.to_be_bytes()).unwrap()),
                RevocationSubject::Authority(Sha256::from_bytes(key)),
            ] {
                let again = RevocationSubject::parse(subject.kind(), &subject.to_string());
                prop_assert_eq!(again, Ok(subject));
            }
        }

        #[test]
        fn no_text_panics(kind in "agent|identity|serial|authority|other", text in "\\PC{0,80}") {
            if let Ok(subject) = RevocationSubject::parse(&kind, &text) {
                prop_assert_eq!(subject.kind(), kind);
            }
        }
    }
}
