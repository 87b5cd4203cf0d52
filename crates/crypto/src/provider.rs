//! The one rustls provider of the process: which cipher suites and groups a build offers, in
//! which order. Invariant: it is made once, so configurations that share it share the allocation.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

use crate::backend;

/// The backend of this build: `aws-lc-rs` or `ring`.
pub const BACKEND: &str = backend::NAME;

/// The provider for every TLS configuration: AES-128-GCM first (SHA-256 is hardware-accelerated
/// where SHA-384 is not), then AES-256-GCM and ChaCha20-Poly1305, their TLS 1.2 ECDHE
/// counterparts for the web listener, and, where the backend has it, X25519MLKEM768 first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: backend::CIPHER_SUITES.to_vec(),
            kx_groups: backend::KEY_EXCHANGE_GROUPS.to_vec(),
            ..backend::base_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

#[cfg(test)]
mod tests {
    use rustls::{CipherSuite, NamedGroup};

    use super::*;

    #[test]
    fn the_provider_is_made_once() {
        assert!(Arc::ptr_eq(&provider(), &provider()));
    }

    #[test]
    fn aes_128_comes_first() {
        assert_eq!(
            provider().cipher_suites[0].suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
        );
    }

    #[cfg(feature = "aws-lc-rs")]
    #[test]
    fn the_default_build_offers_the_hybrid_group_first() {
        let groups: Vec<_> = provider()
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        let expected = [
            NamedGroup::X25519MLKEM768,
            NamedGroup::X25519,
            NamedGroup::secp256r1,
        ];
        assert_eq!(groups, expected);
    }

    #[cfg(feature = "ring")]
    #[test]
    fn the_ring_build_offers_x25519_first() {
        let groups: Vec<_> = provider()
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(groups, [NamedGroup::X25519, NamedGroup::secp256r1]);
    }
}
