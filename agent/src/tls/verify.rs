//! Who the other side is: the two verifiers that rustls calls during a full handshake. Pure.
//!
//! Both check the chain to the trust bundle, purpose and validity; the client's also that the peer is the expected identity,
//! the server's that the peer has one SPIFFE identity of our trust domain. Refused certificates end the handshake with an alert.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        VerifierBuilderError,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{bundle::Bundle, certificate::Facts, server_name};
use crate::snapshot::spiffe::SpiffeId;

/// Why a certificate that is otherwise valid does not name who may speak here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    /// None of the URI names is the expected one.
    #[error("the peer presented {0:?}, which is not the expected identity")]
    Identity(Vec<String>),
    /// No single SPIFFE identity.
    #[error("the peer's certificate must have exactly one URI name, a SPIFFE identity, but has {0:?}")]
    NoIdentity(Vec<String>),
    /// A SPIFFE identity of another trust domain.
    #[error("the peer is {0}, of another trust domain")]
    TrustDomain(SpiffeId),
}

impl From<NotAllowed> for Error {
    fn from(reason: NotAllowed) -> Self {
        CertificateError::Other(OtherError(Arc::new(reason))).into()
    }
}

fn read(der: &CertificateDer<'_>) -> Result<Facts, Error> {
    Facts::read(der).map_err(|_| CertificateError::BadEncoding.into())
}

/// A chain to a root that only has the name of ours is a chain to an unknown root.
fn unknown_root(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

/// Checks servers for a client; whom it expects stands in the server name.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(bundle: &Bundle, provider: &CryptoProvider) -> Self {
        Self { roots: bundle.store(), algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let all = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, all)
            .map_err(unknown_root)?;
        let uris = read(end_entity)?.uris;
        match uris.iter().any(|uri| server_name::expects(server_name, uri)) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(NotAllowed::Identity(uris).into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks clients for a server of one trust domain; a certificate is required.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl ClientVerifier {
    pub(crate) fn new(
        bundle: &Bundle,
        provider: Arc<CryptoProvider>,
        trust_domain: &str,
    ) -> Result<Self, VerifierBuilderError> {
        // No hints of roots: they would tell strangers about the mesh, and the peer has one certificate anyway.
        let chain = WebPkiClientVerifier::builder_with_provider(bundle.store(), provider)
            .clear_root_hint_subjects()
            .build()?;
        Ok(Self { chain, trust_domain: trust_domain.to_owned() })
    }
}

/// The peer's identity, if it has one of `trust_domain`.
pub(crate) fn member(facts: &Facts, trust_domain: &str) -> Result<SpiffeId, NotAllowed> {
    match facts.identity() {
        None => Err(NotAllowed::NoIdentity(facts.uris.clone())),
        Some(id) if id.trust_domain() != trust_domain => Err(NotAllowed::TrustDomain(id)),
        Some(id) => Ok(id),
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now).map_err(unknown_root)?;
        member(&read(end_entity)?, &self.trust_domain)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
