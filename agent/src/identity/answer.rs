//! Turns the CA's answer into credentials and a trust bundle, or says why it is not what was asked for. Pure.

use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};

use crate::{
    snapshot::spiffe::SpiffeId,
    tls::{BuildError, Bundle, BundleError, Credentials, Facts},
};

/// What is wrong with an answer of the CA.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Fewer than two elements: a leaf and its roots are needed.
    #[error(
        "the CA's answer: field `cert_chain` must hold the leaf first and the roots last, it has {0} elements"
    )]
    TooShort(usize),
    /// An element is no PEM.
    #[error("the CA's answer: field `cert_chain[{0}]` is not PEM: {1}")]
    Pem(usize, String),
    /// The last element is no bundle.
    #[error("the CA's answer: last element of `cert_chain`: {0}")]
    Bundle(#[from] BundleError),
    /// Leaf and key or identity do not fit.
    #[error("the CA's answer: {0}")]
    Leaf(#[from] BuildError),
    /// The leaf is not signed by one of the roots it came with, or is not valid now.
    #[error("the CA's answer: the certificate does not verify against the roots it came with: {0}")]
    Chain(String),
}

/// Reads `cert_chain` (PEM texts: leaf, intermediates, last the roots concatenated) for the key that was made for `id`.
pub(crate) fn read(
    id: &SpiffeId,
    key: PrivateKeyDer<'static>,
    cert_chain: &[String],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(Credentials, Bundle), AnswerError> {
    let (roots, chain) = match cert_chain.split_last() {
        Some((roots, chain)) if !chain.is_empty() => (roots, chain),
        _ => return Err(AnswerError::TooShort(cert_chain.len())),
    };
    let bundle = Bundle::from_pem(roots.as_bytes())?;
    let mut certificates = Vec::new();
    for (index, text) in chain.iter().enumerate() {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            certificates.push(certificate.map_err(|error| AnswerError::Pem(index, error.to_string()))?);
        }
    }
    verify(&certificates, &bundle, now, provider)?;
    // Some CAs repeat a root among the intermediates; peers have it.
    certificates.retain(|certificate| !bundle.certificates().contains(certificate));
    Ok((Credentials::new(id.clone(), certificates, key)?, bundle))
}

fn verify(
    chain: &[CertificateDer<'static>],
    bundle: &Bundle,
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), AnswerError> {
    let refused = |error: &dyn std::fmt::Display| AnswerError::Chain(error.to_string());
    let leaf = chain.first().ok_or(AnswerError::TooShort(0))?;
    // A clock a little behind the CA's would find the leaf not valid yet; peers judge that, backdating covers it.
    let start = Facts::read(leaf).map_err(|error| refused(&error))?.not_before.unix_timestamp();
    let now = now.as_secs().max(u64::try_from(start).unwrap_or(0));
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    bundle.verify(chain, now, provider).map_err(|error| refused(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::tls::{
        provider,
        test_authority::{Leaf, TestAuthority, shop},
    };

    fn pem(der: &CertificateDer<'_>) -> String {
        let line = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for chunk in base64(der).as_bytes().chunks(64) {
            text += &(line(chunk) + "\n");
        }
        text + "-----END CERTIFICATE-----\n"
    }

    fn base64(data: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in data.chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let value = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap();
                text.push(if digit > chunk.len() { '=' } else { char::from(*DIGITS.get(value).unwrap()) });
            }
        }
        text
    }

    #[test]
    fn takes_what_was_asked_for_and_nothing_else() {
        let (ours, other) = (TestAuthority::new(), TestAuthority::new());
        let now = ours.clock.unix();
        let (chain, key) = ours.sign(&Leaf::new(shop("web").as_str(), &ours.clock));
        let (leaf, root) = (pem(chain.first().unwrap()), pem(&ours.root));
        let read =
            |id: &SpiffeId, chain: &[String]| super::read(id, key.clone_key(), chain, now, &provider());
        let (credentials, bundle) = read(&shop("web"), &[leaf.clone(), root.clone()]).unwrap();
        assert_eq!((credentials.id, bundle.certificates().len()), (shop("web"), 1));
        let both = format!("{root}{}", pem(&other.root));
        assert_eq!(read(&shop("web"), &[leaf.clone(), both]).unwrap().1.certificates().len(), 2);
        assert!(matches!(read(&shop("web"), std::slice::from_ref(&leaf)), Err(AnswerError::TooShort(1))));
        assert!(matches!(read(&shop("cart"), &[leaf.clone(), root.clone()]), Err(AnswerError::Leaf(_))));
        assert!(matches!(read(&shop("web"), &[leaf.clone(), pem(&other.root)]), Err(AnswerError::Chain(_))));
        assert!(matches!(read(&shop("web"), &[leaf, "x".to_owned()]), Err(AnswerError::Bundle(_))));
        let (foreign, _) = ours.sign(&Leaf::new(shop("web").as_str(), &ours.clock));
        assert!(read(&shop("web"), &[pem(foreign.first().unwrap()), root]).is_err(), "another key");
    }
}
