//! The trust bundle: the root certificates that a peer's chain may end in. Several during a rotation. Pure.

use std::sync::Arc;

use rustls::{RootCertStore, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};

/// Why a list of roots is not a trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The text holds no certificate.
    #[error("no root certificate found: expected PEM blocks `-----BEGIN CERTIFICATE-----`")]
    Empty,
    /// A PEM block is broken.
    #[error("root certificates: broken PEM: {0}")]
    Pem(String),
    /// A certificate cannot be a trust anchor.
    #[error("root certificate number {number} cannot be used: {reason}")]
    Root {
        /// Position in the list, from 1.
        number: usize,
        /// What rustls said.
        reason: String,
    },
}

/// Roots without repetition, in a form that compares and that rustls takes.
#[derive(Debug, Clone)]
pub struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
}

impl Bundle {
    /// A bundle of these roots; the order does not matter.
    pub fn new(mut certificates: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
        certificates.dedup();
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.iter().enumerate() {
            store
                .add(certificate.clone())
                .map_err(|error| BundleError::Root { number: index + 1, reason: error.to_string() })?;
        }
        Ok(Self { certificates, store: Arc::new(store) })
    }

    /// The roots in a PEM text, one after the other.
    pub fn from_pem(text: &[u8]) -> Result<Self, BundleError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        Self::new(certificates.map_err(|error| BundleError::Pem(error.to_string()))?)
    }

    /// The roots, sorted.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Whether `chain` (leaf first) leads to one of the roots at `now`, for a client; what is wrong with it otherwise.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), webpki::Error> {
        self.verify_with(chain, now, provider, None)
    }

    /// The same, where some may have been revoked.
    pub(super) fn verify_with(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
        revocation: Option<webpki::RevocationOptions<'_>>,
    ) -> Result<(), webpki::Error> {
        let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::UnknownIssuer)?;
        let algorithms = provider.signature_verification_algorithms.all;
        let usage = webpki::KeyUsage::client_auth();
        let leaf = webpki::EndEntityCert::try_from(leaf)?;
        leaf.verify_for_usage(algorithms, &self.store.roots, intermediates, now, usage, revocation, None)
            .map(drop)
    }

    /// The roots as rustls takes them.
    #[must_use]
    pub fn store(&self) -> Arc<RootCertStore> {
        self.store.clone()
    }
}

impl PartialEq for Bundle {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Bundle {}
