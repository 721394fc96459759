//! Signs leaves with the root that is active, and tells the bundle that goes with them.

use std::{path::PathBuf, sync::Arc};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData,
    SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::{Duration, OffsetDateTime};

use super::{
    request::{self, RequestError},
    roots::{self, Root, Roots},
    rotation,
    state::{FolderRoots, StateError},
};
use crate::{snapshot::spiffe::SpiffeId, tls::provider};

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
    /// What is signed.
    pub signing: SigningOptions,
}

/// What is signed, and for how long.
#[derive(Debug, Clone)]
pub struct SigningOptions {
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

/// A leaf with what leads to its root: PEM texts.
struct Signed {
    chain: Vec<String>,
    serial: String,
    not_after: OffsetDateTime,
}

/// A signed leaf.
#[derive(Debug, Clone)]
pub struct IssuedLeaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Leaf, intermediates, then all trusted roots in one text; PEM.
    pub cert_chain: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

/// Signs with what `roots` holds.
pub struct Authority {
    options: SigningOptions,
    roots: Box<dyn Roots>,
    provider: Arc<CryptoProvider>,
}

/// A request that was found to be sound: whose certificate it asks for, and for which key.
pub(crate) struct Checked {
    /// Whose.
    pub(crate) id: SpiffeId,
    key: PublicKey,
}

impl Authority {
    /// Opens the state folder, making the first root where there is none, and writes `root.pem`.
    pub fn open(options: AuthorityOptions, now: OffsetDateTime) -> Result<Self, StateError> {
        let roots = FolderRoots::open(&options.state, &options.signing.trust_domain, now)?;
        let authority = Self::over(Box::new(roots), options.signing);
        authority.trusted(now)?;
        Ok(authority)
    }

    /// Signs with the roots of `roots`.
    pub(crate) fn over(roots: Box<dyn Roots>, options: SigningOptions) -> Self {
        Self { options, roots, provider: provider() }
    }

    /// The trusted roots now, PEM, one after the other; made known to others as well.
    pub fn trusted(&self, now: OffsetDateTime) -> Result<String, StateError> {
        self.bundle(&self.roots.current(now)?, now)
    }

    /// Since when the root signs that signs at `now`.
    pub(crate) fn signs_since(&self, now: OffsetDateTime) -> Result<Option<OffsetDateTime>, StateError> {
        Ok(signer(&self.roots.current(now)?, now).map(|root| root.signs_from))
    }

    /// Signs the request `csr` (PEM). `impersonated` is the identity that the asking agent names; `validity` what it would like.
    pub fn issue(
        &self,
        csr: &str,
        impersonated: Option<&str>,
        validity: Option<std::time::Duration>,
        now: OffsetDateTime,
    ) -> Result<IssuedLeaf, SigningError> {
        self.certify(self.check(csr, impersonated)?, validity, now)
    }

    /// Reads the request `csr` (PEM) and says whose certificate it asks for.
    pub(crate) fn check(&self, csr: &str, impersonated: Option<&str>) -> Result<Checked, RequestError> {
        let (id, key) = request::check(csr, impersonated, &self.options.trust_domain)?;
        Ok(Checked { id, key })
    }

    /// Signs what was checked.
    pub(crate) fn certify(
        &self,
        checked: Checked,
        validity: Option<std::time::Duration>,
        now: OffsetDateTime,
    ) -> Result<IssuedLeaf, SigningError> {
        let Checked { id, key } = checked;
        let names = vec![SanType::URI(id.as_str().try_into()?)];
        // Read once: whoever gets a leaf trusts every root that was known when it was signed.
        let roots = self.roots.current(now)?;
        let lifetime = self.lifetime(validity);
        let Signed { mut chain, serial, not_after } = self.sign(&roots, names, &key, lifetime, now)?;
        chain.push(self.bundle(&roots, now)?);
        Ok(IssuedLeaf { id, cert_chain: chain, serial, not_after })
    }

    /// A certificate for the CA's own gRPC port: chain, key, end.
    pub(crate) fn own_certificate(
        &self,
        names: &[SanType],
        now: OffsetDateTime,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, OffsetDateTime), SigningError> {
        let key = KeyPair::generate()?;
        let roots = self.roots.current(now)?;
        let signed = self.sign(&roots, names.to_vec(), &key, OWN_LIFETIME, now)?;
        let chain = CertificateDer::pem_slice_iter(signed.chain.concat().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok((chain, PrivateKeyDer::Pkcs8(key.serialize_der().into()), signed.not_after))
    }

    fn lifetime(&self, asked: Option<std::time::Duration>) -> Duration {
        let asked = asked.filter(|asked| !asked.is_zero()).unwrap_or(self.options.default_validity);
        Duration::try_from(asked.min(self.options.longest_validity)).unwrap_or(OWN_LIFETIME).max(SHORTEST)
    }

    fn bundle(&self, roots: &[Root], now: OffsetDateTime) -> Result<String, StateError> {
        let bundle = roots::bundle(roots, now, self.options.longest_validity);
        self.roots.publish(&bundle)?;
        Ok(bundle)
    }

    fn sign(
        &self,
        roots: &[Root],
        names: Vec<SanType>,
        key: &impl PublicKeyData,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Signed, SigningError> {
        let root = signer(roots, now).ok_or(rcgen::Error::IssuerNotCrlSigner)?;
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
        let mut chain = vec![params.signed_by(key, &root.issuer)?.pem()];
        chain.extend(Some(root.intermediates.clone()).filter(|text| !text.is_empty()));
        let serial = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Signed { chain, serial, not_after: params.not_after })
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
}

fn signer(roots: &[Root], now: OffsetDateTime) -> Option<&Root> {
    let starts: Vec<_> = roots.iter().map(|root| root.signs_from).collect();
    roots.get(rotation::signer(&starts, now))
}
