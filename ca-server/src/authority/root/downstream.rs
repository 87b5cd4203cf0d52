//! Authorities for instances of Countersign below this one: each signs its replicas' intermediates
//! under the same root, and nothing further down.

use crypto::random::SystemRandom;
use crypto::signing::PublicKey;
use identity::x509::UnverifiedIssuingChain;
use identity::{SerialNumber, Validity};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{RootError, RootKeeper, root_row};
use crate::authority::PublishedRoots;
use crate::authority::lifecycle::Generation;
use crate::pkcs11::off_thread;
use crate::store::{AuthorityCertificate, Downstream, DownstreamAuthorityRow, SealedKeyRow};

/// As it was signed, and by what.
struct Signed {
    row: DownstreamAuthorityRow,
    certificate: CertificateDer<'static>,
    issuer: String,
}

impl RootKeeper {
    /// Opens the active root, signs an authority for this key, and wipes the root. It is recorded
    /// when this returns; a key that has one already gets the same again.
    pub(crate) async fn sign_downstream(
        &self,
        roots: &PublishedRoots,
        downstream: &Downstream,
        public_key: PublicKey,
        now: OffsetDateTime,
    ) -> Result<DownstreamAuthorityRow, RootError> {
        let (generation, _) = roots.active().ok_or(RootError::Absent)?;
        let rows = self.keys_in_force(now).await?;
        let (keeper, name) = (self.clone(), downstream.name().to_owned());
        let signing =
            off_thread(move || keeper.sign_below(&rows, generation, (&name, &public_key), now));
        let signed = signing.await?;
        let certificate = AuthorityCertificate {
            der: &signed.certificate,
            issuer: &signed.issuer,
            recorded_at: now,
        };
        let kept = self
            .store
            .record_downstream_authority(&signed.row, certificate);
        Ok(kept.await?)
    }

    fn sign_below(
        &self,
        rows: &[SealedKeyRow],
        generation: Generation,
        (name, public_key): (&str, &PublicKey),
        now: OffsetDateTime,
    ) -> Result<Signed, RootError> {
        let root = root_row(rows, generation)?;
        let issuer = self.issuer(root, rows, now)?;
        let life = (
            now - self.lifetimes.back_date,
            now + self.lifetimes.downstream,
        );
        let validity =
            Validity::try_new(life.0, life.1)?.clamp_to(&issuer.validity, self.lifetimes.margin)?;
        let serial = SerialNumber::random(&mut SystemRandom);
        let certificate = issuer.sign_mesh_authority(name, public_key, validity, serial)?;
        let chain = std::iter::once(certificate.clone())
            .chain(issuer.above)
            .chain([root.certificate.clone().into()]);
        let chain = UnverifiedIssuingChain::for_another(chain.collect());
        let row = DownstreamAuthorityRow {
            key_id: public_key.fingerprint().to_string(),
            downstream: name.to_owned(),
            generation: generation.number(),
            serial,
            validity,
            chain: chain.map_err(RootError::NoRoom)?.to_concatenated_der(),
        };
        Ok(Signed {
            row,
            certificate,
            issuer: issuer.key_id,
        })
    }
}
