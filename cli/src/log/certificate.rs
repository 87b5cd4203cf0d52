//! A certificate in a file, PEM or DER.

use std::path::Path;

use anyhow::Context;
use identity::x509::UnverifiedChain;

/// The DER of the first certificate in the file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let chain = match bytes.starts_with(b"-----BEGIN") {
        true => UnverifiedChain::from_pem(&bytes),
        false => UnverifiedChain::from_concatenated_der(&bytes),
    };
    let chain = chain.with_context(|| format!("{} holds no certificate", path.display()))?;
    let first = chain.certificates().first();
    let first = first.with_context(|| format!("{} holds no certificate", path.display()))?;
    Ok(first.to_vec())
}
