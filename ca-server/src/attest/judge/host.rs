//! Judges the certificate of a host, and that its key signed on this very connection.

use super::{Attested, Circumstances, Proof};
use crate::attest::evidence::UnverifiedHost;
use crate::attest::host::HostAttestor;
use crate::attest::possession::{ProvenKey, Purpose};
use crate::attest::refusal::Refusal;

impl UnverifiedHost {
    pub(super) fn verify(
        self,
        key: ProvenKey,
        attestor: &HostAttestor,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let host = attestor.verify(&self.chain, here.now)?;
        let statement = here.channel.statement(Purpose::Host, key.public_key());
        host.verify(self.scheme, &statement, &self.signature)
            .map_err(|_| Refusal::Possession)?;
        Ok(Attested {
            agent: attestor.name(&host)?,
            key,
            by: Proof::Host,
            selectors: attestor.selectors().clone(),
        })
    }
}
