//! `countersign authority recovery`: the offline key whose bundle updates agents obey when they can
//! tell the CA no longer from a thief of its root.
//!
//! Invariant: the private key is read where it is, for one signature, and never leaves its file;
//! signing needs neither a network nor a credential.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use crypto::digest::Sha256;
use crypto::signing::SigningKey;
use data_encoding::BASE64;
use identity::recovery::{BundleUpdate, private_from_pem, private_to_pem, public_to_pem};
use identity::x509::Bundle;
use identity::{TrustDomain, Validity};
use runtime::{Clock, Span, files};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::admin::AdminArguments;
use crate::output;

const PATH: &str = "/v1/authorities/recovery";
const LONGEST_REQUEST: u64 = 1024 * 1024;
/// Clocks of agents may be behind that of the host that signs.
const BACK_DATE: Duration = Duration::from_secs(60 * 60);

/// Let agents that were away follow the removal of a root, by the word of an offline key
///
/// Agents pin the public key when they join. When a root is removed while an agent is away, and it
/// can tell the CA no longer from whoever stole that root, it takes the bundle that this key has
/// signed. The key itself is never on a CA.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  countersign authority recovery generate-key --to recovery.key >recovery.pub   (offline)
  countersign authority recovery request >request.json
  countersign authority recovery sign --key recovery.key request.json >update   (offline)
  countersign authority recovery publish update")]
pub(super) struct Recovery {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    GenerateKey(GenerateKey),
    Request(Request),
    Sign(Sign),
    Publish(Publish),
}

/// Make a recovery key; the public key, for the configuration of the CA, is written to standard output
#[derive(Debug, Args)]
struct GenerateKey {
    /// Where the private key goes (0600, PKCS#8 in PEM); must not exist
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Write what there is to sign: the bundle without the roots marked as compromised
#[derive(Debug, Args)]
struct Request {
    #[command(flatten)]
    admin: AdminArguments,
}

/// Sign a bundle update, offline
#[derive(Debug, Args)]
struct Sign {
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// SHA-256 of a root that is never to be trusted again, beside those marked as compromised;
    /// may be given more than once
    #[arg(long, value_name = "SHA256")]
    remove: Vec<String>,
    /// How long agents may take it; replay by a thief is possible for so long
    #[arg(long, value_name = "TIME", default_value = "30days")]
    valid_for: Span,
    /// What `request` has written
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
}

/// Give a signed bundle update to the CA, which gives it to agents that ask
///
/// A file with the same text, named `bundle-update` in the state directory of an agent, does the
/// same for that agent alone.
#[derive(Debug, Args)]
struct Publish {
    /// What `sign` has written
    #[arg(value_name = "UPDATE")]
    update: PathBuf,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What the CA says that is needed for signing; the rest of its answer is not.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signable {
    trust_domain: String,
    key_sha256: Option<String>,
    next_number: u64,
    bundle_sequence: u64,
    roots: Vec<SignableRoot>,
}

#[derive(Debug, Deserialize)]
struct SignableRoot {
    certificate: String,
    compromised: bool,
}

impl Recovery {
    pub(super) async fn run(&self) -> anyhow::Result<()> {
        match &self.action {
            Action::GenerateKey(generate) => generate.run(),
            Action::Request(request) => request.run().await,
            Action::Sign(sign) => sign.run(),
            Action::Publish(publish) => publish.run().await,
        }
    }
}

impl GenerateKey {
    fn run(&self) -> anyhow::Result<()> {
        let key = SigningKey::generate();
        let made = files::create_private(&self.to, private_to_pem(&key).as_bytes())?;
        if !made {
            bail!("{} exists; it is not overwritten", self.to.display());
        }
        output::print_text(&public_to_pem(key.public_key()))
    }
}

impl Request {
    async fn run(&self) -> anyhow::Result<()> {
        let view = self.admin.client()?.get(PATH).await?;
        if view["keySha256"].is_null() {
            bail!("the CA has no recovery key, so agents have pinned none; see [recovery]");
        }
        output::print_text(&format!("{}\n", serde_json::to_string_pretty(&view)?))
    }
}

impl Sign {
    fn run(&self) -> anyhow::Result<()> {
        let text = files::read_private(&self.key)?;
        let key = private_from_pem(&text)
            .with_context(|| format!("{} cannot be used", self.key.display()))?;
        let request: Signable = serde_json::from_slice(&read(&self.request)?)
            .with_context(|| format!("{} is no request", self.request.display()))?;
        let update = self.update(&request, &key, Clock::system().now())?;
        for root in update.bundle().authorities() {
            output::remark(&format!("trusts  {}", root.digest()));
        }
        for digest in update.removed() {
            output::remark(&format!("removes {digest}"));
        }
        output::print_text(&format!("{}\n", update.sign(&key)))
    }

    fn update(
        &self,
        request: &Signable,
        key: &SigningKey,
        now: OffsetDateTime,
    ) -> anyhow::Result<BundleUpdate> {
        let own = key.public_key().fingerprint().to_string();
        if request.key_sha256.as_ref() != Some(&own) {
            bail!("the CA's recovery key is another one: agents would refuse the update");
        }
        let trust_domain: TrustDomain = request.trust_domain.parse()?;
        let mut removed = Vec::new();
        for digest in &self.remove {
            let digest: Sha256 = digest.parse().context("--remove takes SHA-256 digests")?;
            removed.push(digest);
        }
        let mut roots = Vec::new();
        for root in &request.roots {
            let der = BASE64.decode(root.certificate.as_bytes())?;
            let digest = Sha256::of(&der);
            if root.compromised && !removed.contains(&digest) {
                removed.push(digest);
            }
            if !removed.contains(&digest) {
                roots.push(der);
            }
        }
        let bundle = Bundle::new(trust_domain, request.bundle_sequence, roots)?;
        let validity = Validity::try_new(now - BACK_DATE, now + Duration::from(self.valid_for))?;
        Ok(BundleUpdate::new(
            request.next_number,
            validity,
            bundle,
            removed,
        )?)
    }
}

impl Publish {
    async fn run(&self) -> anyhow::Result<()> {
        let text = String::from_utf8(read(&self.update)?).context("not a bundle update")?;
        let client = self.admin.client()?;
        let view = client.post(PATH, &json!({ "update": text.trim() })).await?;
        output::remark(&format!(
            "bundle update {} is published",
            view["published"]["number"]
        ));
        Ok(())
    }
}

/// What the removal of a compromised root means for agents that are away.
pub(super) fn consequence(list: &Value) -> &'static str {
    match list["recoveryKey"] == true {
        true => {
            "agents that are away until the root is removed follow by the recovery key: see \
             `countersign authority recovery`"
        }
        false => {
            "there is no recovery key: agents that are away until the root is removed must be \
             joined again, out of band"
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    let file = file.with_context(|| format!("cannot read {}", path.display()))?;
    file.take(LONGEST_REQUEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use crypto::random::SystemRandom;
    use identity::SerialNumber;
    use identity::x509::Authority;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn root(compromised: bool) -> SignableRoot {
        let trust_domain = "td".parse().unwrap();
        let validity = Validity::try_new(NOW - DAY, NOW + DAY).unwrap();
        let serial = SerialNumber::random(&mut SystemRandom);
        let key = SigningKey::generate();
        let root = Authority::new_root(&trust_domain, &key, validity, serial).unwrap();
        SignableRoot {
            certificate: BASE64.encode(root.certificate()),
            compromised,
        }
    }

    fn request(key: &SigningKey) -> Signable {
        Signable {
            trust_domain: "td".to_owned(),
            key_sha256: Some(key.public_key().fingerprint().to_string()),
            next_number: 9,
            bundle_sequence: 7,
            roots: vec![root(true), root(false)],
        }
    }

    fn sign(remove: &[Sha256]) -> Sign {
        Sign {
            key: PathBuf::new(),
            remove: remove.iter().map(ToString::to_string).collect(),
            valid_for: Span::new(DAY),
            request: PathBuf::new(),
        }
    }

    #[test]
    fn a_key_that_agents_have_not_pinned_signs_nothing() {
        let request = request(&SigningKey::generate());
        let refused = sign(&[]).update(&request, &SigningKey::generate(), NOW);
        assert!(refused.unwrap_err().to_string().contains("another one"));
    }

    #[test]
    fn an_update_that_trusts_nothing_is_not_signed() {
        let key = SigningKey::generate();
        let mut request = request(&key);
        request.roots.pop();
        assert!(sign(&[]).update(&request, &key, NOW).is_err());
    }

    #[test]
    fn a_compromised_root_is_removed_and_so_is_one_that_is_named() {
        let key = SigningKey::generate();
        let request = request(&key);
        let gone = Sha256::of(b"gone");
        let update = sign(&[gone]).update(&request, &key, NOW).unwrap();
        let digest =
            |root: &SignableRoot| Sha256::of(&BASE64.decode(root.certificate.as_bytes()).unwrap());
        assert_eq!(update.removed(), [gone, digest(&request.roots[0])]);
        let trusted = update.bundle().authorities().iter();
        let trusted: Vec<_> = trusted.map(|root| root.digest()).collect();
        assert_eq!(trusted, [digest(&request.roots[1])]);
        assert_eq!((update.number(), update.bundle().sequence()), (9, 7));
    }
}
