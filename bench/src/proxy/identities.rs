//! The SVIDs that our CA issued to the three workloads, and the same as PEM files for proxies that
//! read files: everybody shows, and verifies, the same certificates.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use data_encoding::BASE64;
use identity::x509::X509Svid;
use runtime::Clock;
use runtime::files::{private_directory, write_private};
use workload_api::{Endpoint, X509Context, X509Source};

#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) context: X509Context,
    pub(crate) checkout: X509Svid,
    pub(crate) orders: X509Svid,
    pub(crate) intruder: X509Svid,
}

/// Where the files are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) directory: PathBuf,
    pub(crate) roots: PathBuf,
    pub(crate) checkout: PathBuf,
    pub(crate) orders: PathBuf,
}

impl Identities {
    /// What the Workload API gives to a process of this uid.
    pub(crate) async fn fetch(socket: PathBuf) -> Result<Self> {
        let source = X509Source::start(Endpoint::Unix(socket), Clock::system());
        let context = X509Context::clone(&*source.wait_ready().await?);
        let of = |workload: &str| {
            let ends = format!("/sa/{workload}");
            let mut all = context.identities().iter();
            let found = all.find(|it| it.svid.spiffe_id().path().ends_with(&ends));
            let found = found.with_context(|| format!("the Workload API gives shop/{workload}"));
            found.map(|it| it.svid.clone())
        };
        Ok(Self {
            checkout: of("checkout")?,
            orders: of("orders")?,
            intruder: of("intruder")?,
            context,
        })
    }

    /// Each file of an identity holds its chain and its key.
    pub(crate) fn write(&self, directory: &Path) -> Result<Files> {
        private_directory(directory)?;
        let files = Files {
            directory: directory.to_owned(),
            roots: directory.join("roots.pem"),
            checkout: directory.join("checkout.pem"),
            orders: directory.join("orders.pem"),
        };
        let domain = self.orders.spiffe_id().trust_domain();
        let bundle = self.context.bundles().get(domain);
        let roots = bundle
            .context("the bundle of our own trust domain")?
            .authorities();
        let roots: String = roots
            .iter()
            .map(|root| pem(CERTIFICATE, root.der()))
            .collect();
        write_private(files.roots.clone(), roots.as_bytes())?;
        write_private(files.checkout.clone(), both(&self.checkout).as_bytes())?;
        write_private(files.orders.clone(), both(&self.orders).as_bytes())?;
        Ok(files)
    }
}

const CERTIFICATE: &str = "CERTIFICATE";

fn both(svid: &X509Svid) -> String {
    let chain = svid.svid().chain().iter();
    let mut text: String = chain.map(|der| pem(CERTIFICATE, der)).collect();
    text.push_str(&pem("PRIVATE KEY", &svid.key().to_pkcs8()));
    text
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The URI SAN as a certificate holds it: `[6] IMPLICIT IA5String` (RFC 5280 §4.2.1.6). As long as
/// the length has one byte, this finds the whole name and nothing that merely contains it.
pub(crate) fn san(svid: &X509Svid) -> Vec<u8> {
    let uri = svid.spiffe_id().to_string().into_bytes();
    let length = u8::try_from(uri.len()).expect("the bench's own names are short");
    [vec![0x86, length], uri].concat()
}
