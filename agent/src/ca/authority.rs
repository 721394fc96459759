//! Signs leaves with the root that is active, and tells the bundle that goes with them. Follows its state folder.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use super::{
    request::{self, RequestError},
    rotation,
    state::{StateError, StateFolder},
    tokens::Version,
};
use crate::{
    snapshot::spiffe::SpiffeId,
    tls::{Facts, provider},
};

/// Leaves begin a little in the past, for clocks that lag.
const BACKDATE: Duration = Duration::minutes(1);
/// Nothing shorter is signed: it would be over before it is in use.
const SHORTEST: Duration = Duration::seconds(2);
/// The CA's own certificate for its gRPC port.
const OWN_LIFETIME: Duration = Duration::hours(24);

/// Where the roots are and how long leaves live.
#[derive(Debug, Clone)]
pub struct AuthorityOptions {
    /// State folder, made with mode 0700 where it is missing.
    pub state: PathBuf,
    /// The only trust domain that is signed for.
    pub trust_domain: String,
    /// Validity of a leaf whose request does not say (24 h).
    pub default_validity: std::time::Duration,
    /// Longest validity that a request gets; also how long a superseded root stays trusted.
    pub longest_validity: std::time::Duration,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The request is at fault.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The state folder is.
    #[error(transparent)]
    State(#[from] StateError),
    /// The certificate could not be made.
    #[error("signing: {0}")]
    Sign(#[from] rcgen::Error),
    /// The system gave no random number for the serial.
    #[error("no random numbers from the system")]
    Random,
}

impl SigningError {
    /// Whether whoever asked must mend something, and trying again does not help.
    #[must_use]
    pub fn is_request_fault(&self) -> bool {
        matches!(self, Self::Request(_))
    }
}

/// A signed leaf.
#[derive(Debug, Clone)]
pub struct IssuedLeaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Leaf, then all trusted roots in one text; PEM.
    pub cert_chain: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

struct Root {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    signs_from: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// The roots of one state folder.
pub struct Authority {
    options: AuthorityOptions,
    folder: StateFolder,
    roots: Mutex<(Version, Arc<Vec<Root>>)>,
    provider: Arc<CryptoProvider>,
}

impl Authority {
    /// Opens the state folder, making the first root where there is none, and writes `root.pem`.
    pub fn open(options: AuthorityOptions, now: OffsetDateTime) -> Result<Self, StateError> {
        let folder = StateFolder::open(&options.state)?;
        let roots = load(&folder, &options, now)?;
        let authority = Self { options, folder, roots: Mutex::new(roots), provider: provider() };
        authority.folder.publish(&authority.bundle(&authority.roots(now)?, now))?;
        Ok(authority)
    }

    /// The trusted roots now, PEM, one after the other; also written to `root.pem`.
    pub fn trusted(&self, now: OffsetDateTime) -> Result<String, StateError> {
        let bundle = self.bundle(&self.roots(now)?, now);
        self.folder.publish(&bundle)?;
        Ok(bundle)
    }

    /// Signs the request `csr` (PEM). `impersonated` is the identity that the asking agent names; `validity` what it would like.
    pub fn issue(
        &self,
        csr: &str,
        impersonated: Option<&str>,
        validity: Option<std::time::Duration>,
        now: OffsetDateTime,
    ) -> Result<IssuedLeaf, SigningError> {
        let (id, key) = request::check(csr, impersonated, &self.options.trust_domain)?;
        let uri = id.as_str().try_into()?;
        let lifetime = self.lifetime(validity);
        let (pem, not_after, serial) = self.sign(vec![SanType::URI(uri)], &key, lifetime, now)?;
        Ok(IssuedLeaf { id, cert_chain: vec![pem, self.trusted(now)?], serial, not_after })
    }

    /// A certificate for the CA's own gRPC port: chain, key, end.
    pub(crate) fn own_certificate(
        &self,
        names: &[SanType],
        now: OffsetDateTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, OffsetDateTime), SigningError> {
        let key = KeyPair::generate()?;
        let (pem, not_after, _) = self.sign(names.to_vec(), &key, OWN_LIFETIME, now)?;
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok((vec![leaf], PrivateKeyDer::Pkcs8(key.serialize_der().into()), not_after))
    }

    fn lifetime(&self, asked: Option<std::time::Duration>) -> Duration {
        let asked = asked.filter(|asked| !asked.is_zero()).unwrap_or(self.options.default_validity);
        Duration::try_from(asked.min(self.options.longest_validity)).unwrap_or(OWN_LIFETIME).max(SHORTEST)
    }

    fn sign(
        &self,
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<(String, OffsetDateTime, String), SigningError> {
        let roots = self.roots(now)?;
        let starts: Vec<_> = roots.iter().map(|root| root.signs_from).collect();
        let root = roots.get(rotation::signer(&starts, now)).ok_or(rcgen::Error::IssuerNotCrlSigner)?;
        let serial = self.serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.options.trust_domain.as_str());
        params.subject_alt_names = names;
        params.not_before = now - BACKDATE;
        params.not_after = (now + lifetime).min(root.not_after);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let pem = params.signed_by(key, &root.issuer)?.pem();
        Ok((pem, params.not_after, serial.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// 127 random bits: positive, and never zero at the front (RFC 5280, 4.1.2.2).
    fn serial(&self) -> Result<[u8; 16], SigningError> {
        let mut serial = [0; 16];
        self.provider.secure_random.fill(&mut serial).map_err(|_| SigningError::Random)?;
        if let Some(first) = serial.first_mut() {
            *first = *first & 0x3f | 0x40;
        }
        Ok(serial)
    }

    fn roots(&self, now: OffsetDateTime) -> Result<Arc<Vec<Root>>, StateError> {
        let version = self.folder.version()?;
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = load(&self.folder, &self.options, now)?;
            tracing::info!(roots = known.1.len(), "the CA's roots changed");
        }
        Ok(known.1.clone())
    }

    fn bundle(&self, roots: &[Root], now: OffsetDateTime) -> String {
        let starts: Vec<_> = roots.iter().map(|root| root.signs_from).collect();
        let longest = Duration::try_from(self.options.longest_validity).unwrap_or(OWN_LIFETIME);
        let trusted = rotation::trusted(&starts, now, longest);
        roots.iter().zip(trusted).filter(|(_, trusted)| *trusted).map(|(root, _)| root.pem.as_str()).collect()
    }
}

fn load(
    folder: &StateFolder,
    options: &AuthorityOptions,
    now: OffsetDateTime,
) -> Result<(Version, Arc<Vec<Root>>), StateError> {
    let stored = folder.load(&options.trust_domain, now)?;
    // Taken after reading: a change in between is read again at the next look.
    let version = folder.version()?;
    let mut roots = Vec::new();
    for root in stored {
        let broken = |reason: &dyn std::fmt::Display| StateError::Content {
            path: options.state.display().to_string(),
            reason: reason.to_string(),
        };
        let der =
            CertificateDer::from_pem_slice(root.certificate.as_bytes()).map_err(|error| broken(&error))?;
        let facts = Facts::read(&der).map_err(|error| broken(&error))?;
        if facts.public_key != root.key.subject_public_key_info() {
            return Err(broken(&"a root's key and certificate do not belong together"));
        }
        roots.push(Root {
            issuer: Issuer::from_ca_cert_der(&der, root.key)?,
            pem: root.certificate,
            signs_from: root.signs_from,
            not_after: facts.not_after,
        });
    }
    Ok((version, Arc::new(roots)))
}
