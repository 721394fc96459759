//! Makes a key and the signing request for it. The key is drawn from the system's random source and stays in memory.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::PrivateKeyDer;

use crate::snapshot::spiffe::SpiffeId;

/// A new key and the request that is sent for it.
pub(crate) struct SigningRequest {
    /// PKCS #10 in PEM, with the identity as its only URI name.
    pub(crate) pem: String,
    /// The private key, PKCS #8.
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Makes an ECDSA P-256 key and a request for `id`.
pub(crate) fn sign_request(id: &SpiffeId) -> Result<SigningRequest, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    let pem = params.serialize_request(&key)?.pem()?;
    Ok(SigningRequest { pem, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
}
