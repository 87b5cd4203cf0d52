//! Header fields that a Route sets and removes on the way to the upstream.
//!
//! Invariant: what frames or routes a message, ends at a hop, or is the proxy's own to say, no
//! Route changes; [`HeaderChanges::check`] refuses it when the Route is compiled.

use http::HeaderMap;
use http::header::{self, HeaderName};

use super::settings::HeaderChanges;
use crate::head::fields;

const FRAMING: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRAILER,
    header::EXPECT,
];

/// A field that no Route may change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} belongs to the message or to the mesh, and no Route changes it")]
pub(crate) struct NotChangeable(pub(crate) HeaderName);

impl HeaderChanges {
    /// # Errors
    /// The first field that no Route may change.
    pub(crate) fn check(&self) -> Result<(), NotChangeable> {
        let names = self.set.iter().map(|(name, _)| name).chain(&self.remove);
        for name in names {
            if FRAMING.contains(name) || fields::ends_here(name) {
                return Err(NotChangeable(name.clone()));
            }
        }
        Ok(())
    }

    /// Removes, then sets: what is named in both is set.
    pub(crate) fn apply(&self, fields: &mut HeaderMap) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            fields.insert(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn sets(name: &'static str) -> HeaderChanges {
        HeaderChanges {
            set: vec![(HeaderName::from_static(name), HeaderValue::from_static("x"))],
            remove: Vec::new(),
        }
    }

    #[test]
    fn what_belongs_to_the_message_or_the_mesh_is_refused() {
        for name in [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "x-forwarded-client-cert",
            "x_forwarded_client_cert",
            "countersign-reason",
        ] {
            let changes = sets(name);
            let refused = NotChangeable(HeaderName::from_static(name));
            assert_eq!(changes.check(), Err(refused.clone()));
            let removes = HeaderChanges {
                set: Vec::new(),
                remove: vec![HeaderName::from_static(name)],
            };
            assert_eq!(removes.check(), Err(refused));
        }
    }

    #[test]
    fn every_line_of_a_field_is_replaced_by_the_one_that_is_set() {
        let mut fields = HeaderMap::new();
        fields.append("x-env", HeaderValue::from_static("test"));
        fields.append("x-env", HeaderValue::from_static("stage"));
        fields.append("x-debug", HeaderValue::from_static("1"));
        let changes = HeaderChanges {
            remove: vec![HeaderName::from_static("x-debug")],
            ..sets("x-env")
        };
        assert_eq!(changes.check(), Ok(()));
        changes.apply(&mut fields);
        assert_eq!(fields.get_all("x-env").iter().count(), 1);
        assert_eq!(fields.get("x-env").unwrap(), "x");
        assert!(!fields.contains_key("x-debug"));
    }
}
