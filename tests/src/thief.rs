//! Whoever has the store **and** its key-encryption key has the root. This one opens it as the CA
//! does, and signs what nobody has authorized.

use std::path::Path;

use ca_server::store::{KeyPurpose, SealedKeyRow, Store, StoreConfig, StorePlace};
use crypto::random::SystemRandom;
use crypto::sealing::SealingKey;
use crypto::signing::SigningKey;
use identity::x509::{Authority, BundleSet, LeafSpec, X509Svid};
use identity::{IdTemplate, SerialNumber, SpiffeId, TrustDomain, Validity};
use proto::agent::v1::Svid;
use runtime::Clock;
use time::Duration;

use crate::stranger::verified;

/// The stolen root.
#[derive(Debug)]
pub struct Thief {
    root: Authority,
    clock: Clock,
}

impl Thief {
    /// Copies the store at `database`, and opens the root in it by the key at `kek_file`.
    pub async fn steal(
        database: &Path,
        kek_file: &Path,
        trust_domain: TrustDomain,
        clock: Clock,
    ) -> Self {
        let loot = tempfile::tempdir().expect("a temporary directory");
        for suffix in ["", "-wal"] {
            let name = |path: &Path| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                name
            };
            let copy = loot.path().join("ca.sqlite");
            std::fs::copy(name(database), name(&copy)).expect("the store's file");
        }
        let config = StoreConfig {
            place: StorePlace::Sqlite(loot.path().join("ca.sqlite")),
            trust_domain: trust_domain.clone(),
            id_template: IdTemplate::default(),
        };
        let store = Store::open(&config, clock.now()).await.expect("a copy");
        let sealed = store.sealed_keys().await.expect("the keys");
        let is_root = |row: &SealedKeyRow| row.purpose == KeyPurpose::X509Root;
        let row = sealed.into_iter().find(is_root).expect("a root");
        store.close().await;
        let key = unseal(&row, &trust_domain, &kek(kek_file));
        let root = Authority::load(row.certificate.into(), key).expect("its own key");
        Self { root, clock }
    }

    /// An SVID for `id`, valid like any other, which the CA knows nothing of.
    pub fn sign(&self, id: &SpiffeId, bundles: &BundleSet) -> X509Svid {
        let now = self.clock.now();
        let validity = Validity::try_new(now - Duration::SECOND, now + Duration::HOUR);
        let validity = validity.expect("an hour");
        let (above, key) = (SigningKey::generate(), SigningKey::generate());
        let serial = || SerialNumber::random(&mut SystemRandom);
        let intermediate = self
            .root
            .sign_intermediate("thief", above.public_key(), validity, serial())
            .expect("the root signs");
        let authority = Authority::load(intermediate.clone(), above).expect("its own key");
        let leaf = authority.issue(&LeafSpec {
            spiffe_id: id.clone(),
            public_key: *key.public_key(),
            validity,
            serial: serial(),
            dns_names: Vec::new(),
        });
        let leaf = leaf.expect("the intermediate signs").certificate;
        let svid = Svid {
            spiffe_id: id.to_string(),
            chain: vec![leaf.to_vec(), intermediate.to_vec()],
        };
        verified(svid, key, bundles, &self.clock)
    }
}

fn kek(file: &Path) -> SealingKey {
    let text = std::fs::read_to_string(file).expect("the key's file");
    let bytes = data_encoding::HEXLOWER.decode(text.trim().as_bytes());
    let bytes = bytes.expect("64 digits").try_into();
    SealingKey::from_bytes(bytes.expect("32 bytes"))
}

fn unseal(row: &SealedKeyRow, trust_domain: &TrustDomain, kek: &SealingKey) -> SigningKey {
    let version = row.version.to_be_bytes();
    let parts = [
        trust_domain.as_str().as_bytes(),
        row.purpose.as_str().as_bytes(),
        row.key_id.as_bytes(),
        &version,
    ];
    let framed = parts
        .iter()
        .flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat());
    let label: Vec<u8> = framed.collect();
    let wrapping = [b"countersign data key\0", label.as_slice()].concat();
    let sealing = [b"countersign sealed key\0", label.as_slice()].concat();
    let data_key = kek.open(&wrapping, &row.wrapped_data_key);
    let data_key = data_key.expect("wrapped by this key");
    let data_key = SealingKey::from_bytes(data_key.as_slice().try_into().expect("32 bytes"));
    let pkcs8 = data_key.open(&sealing, &row.sealed).expect("sealed by it");
    SigningKey::from_pkcs8(&pkcs8).expect("a key")
}
