//! `Debug` of the messages that carry a secret: a key or a token's secret never shows.

use std::fmt;

use crate::agent::v1::{JoinTokenEvidence, JwtEvidence};
use crate::mesh::v1::Credentials;
use crate::spiffe::X509svid;

impl fmt::Debug for JoinTokenEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JoinTokenEvidence");
        shown
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtEvidence").finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("X509svid");
        shown
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let token = JoinTokenEvidence {
            secret: b"hush".to_vec(),
            ..Default::default()
        };
        let credentials = Credentials {
            key: b"hush".to_vec(),
            ..Default::default()
        };
        let svid = X509svid {
            x509_svid_key: b"hush".to_vec(),
            ..Default::default()
        };
        let jwt = JwtEvidence {
            token: "hush".to_owned(),
        };
        let shown = format!("{token:?} {jwt:?} {credentials:?} {svid:?}");
        let bytes = format!("{:?}", b"hush");
        assert!(
            !shown.contains("hush") && !shown.contains(&bytes),
            "{shown}"
        );
    }
}
