//! Which cryptography the tunnels use, in the order of preference that `wire.md` fixes. Pure.

use std::sync::Arc;

use rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::{
        cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384},
        default_provider, kx_group,
    },
};

/// aws-lc-rs with AES-GCM only and the hybrid post-quantum group first.
///
/// AES-128 stands before AES-256 (both cost the same where it was measured); a peer that wants only the other one gets it.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        ..default_provider()
    })
}

/// SHA-256 of `data`, by the same provider.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        for (to, from) in digest.iter_mut().zip(suite.common.hash_provider.hash(data).as_ref()) {
            *to = *from;
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    #[test]
    fn hashes_as_fips_180_says() {
        let hex: String = super::sha256(b"abc").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
