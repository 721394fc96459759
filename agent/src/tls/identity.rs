//! One workload's certificate with the two rustls configurations made of it, built once and used by every connection.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, ServerConfig,
    client::{ClientSessionMemoryCache, Resumption, VerifierBuilderError},
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::{
    bundle::Bundle,
    certificate::{Facts, MalformedCertificate},
    clock::Clock,
    provider::provider,
    verify::{ClientVerifier, ServerVerifier},
};
use crate::snapshot::spiffe::SpiffeId;

/// Tickets that a client keeps per identity; rustls keeps up to eight for each (expected identity, address).
const CLIENT_SESSIONS: usize = 4096;
/// Tickets sent after a full handshake: two, so that two connections can resume before new ones arrive.
const TICKETS: usize = 2;

/// Why no configuration can be made of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// rustls does not take key, certificate or settings.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The trust bundle gives no verifier.
    #[error("client verifier: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// The leaf does not parse.
    #[error(transparent)]
    Certificate(#[from] MalformedCertificate),
    /// There is no leaf.
    #[error("the certificate chain is empty")]
    NoLeaf,
    /// The leaf names someone else.
    #[error("the certificate is for {presented:?}, not for {wanted}")]
    Identity {
        /// Whose certificate was asked for.
        wanted: SpiffeId,
        /// The URI names in the certificate.
        presented: Vec<String>,
    },
}

/// A leaf, the intermediates above it, and its private key. The key stays in memory and is never printed.
pub struct Credentials {
    /// Whose certificate it is.
    pub id: SpiffeId,
    /// What the leaf says.
    pub facts: Facts,
    key: Arc<CertifiedKey>,
}

impl Credentials {
    /// Joins a chain (leaf first, without the root) and its key (PKCS #8); fails when they do not fit each other or `id`.
    pub fn new(
        id: SpiffeId,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, BuildError> {
        let facts = Facts::read(chain.first().ok_or(BuildError::NoLeaf)?)?;
        if facts.identity().as_ref() != Some(&id) {
            return Err(BuildError::Identity { wanted: id, presented: facts.uris });
        }
        let key = CertifiedKey::from_der(chain, key, &provider())?;
        key.keys_match()?;
        Ok(Self { id, facts, key: Arc::new(key) })
    }

    /// The chain that is sent to peers, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id)
            .field("serial", &self.facts.serial)
            .finish_non_exhaustive()
    }
}

/// A certificate ready for use, with what it trusts. Immutable; a renewal makes a new one.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The workload.
    pub id: SpiffeId,
    /// Serial number of the leaf, lower-case hexadecimal.
    pub serial: Arc<str>,
    /// Start of validity of the leaf.
    pub not_before: OffsetDateTime,
    /// End of validity of the leaf.
    pub not_after: OffsetDateTime,
    /// For [`super::connect`]; other uses would not say whom they expect and are refused by the verifier.
    pub client: Arc<ClientConfig>,
    /// For [`super::accept`].
    pub server: Arc<ServerConfig>,
    /// Judges validity.
    pub clock: Clock,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) sessions: Arc<ClientSessionMemoryCache>,
}

impl TlsIdentity {
    /// Builds both configurations. Sessions and ticket keys are new with every build: nothing that an earlier
    /// certificate or trust bundle allowed is resumed.
    pub fn build(credentials: Arc<Credentials>, bundle: &Bundle, clock: Clock) -> Result<Self, BuildError> {
        let provider = provider();
        let sessions = Arc::new(ClientSessionMemoryCache::new(CLIENT_SESSIONS));
        let client = client_config(&credentials, bundle, &clock, &provider, sessions.clone())?;
        let server = server_config(&credentials, bundle, &clock, provider)?;
        Ok(Self {
            id: credentials.id.clone(),
            serial: credentials.facts.serial.as_str().into(),
            not_before: credentials.facts.not_before,
            not_after: credentials.facts.not_after,
            client: Arc::new(client),
            server: Arc::new(server),
            clock,
            credentials,
            sessions,
        })
    }

    /// Whether the certificate may still be used at this instant.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.clock.date() <= self.not_after
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

fn client_config(
    credentials: &Credentials,
    bundle: &Bundle,
    clock: &Clock,
    provider: &Arc<CryptoProvider>,
    sessions: Arc<ClientSessionMemoryCache>,
) -> Result<ClientConfig, BuildError> {
    let verifier = Arc::new(ServerVerifier::new(bundle, provider));
    let mut config = ClientConfig::builder_with_details(provider.clone(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.enable_sni = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::store(sessions);
    Ok(config)
}

fn server_config(
    credentials: &Credentials,
    bundle: &Bundle,
    clock: &Clock,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, BuildError> {
    let verifier = ClientVerifier::new(bundle, provider.clone(), credentials.id.trust_domain())?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Tickets carry the session (with the client's chain) to the client: no memory here. The key is this identity's own,
    // so a ticket of one workload never opens at another one of the same agent.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}
