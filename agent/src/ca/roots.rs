//! Roots with their keys: as they are stored, as they sign, and the one seam behind which they are kept (a folder, or a
//! Secret of a cluster). Reads and writes nothing itself.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{rotation, state::StateError};
use crate::tls::Facts;

/// A root lives ten years.
const ROOT_LIFETIME: Duration = Duration::days(3650);
/// Roots begin a little in the past, for clocks that lag.
const BACKDATE: Duration = Duration::minutes(5);
/// The list of roots, in a folder or in a Secret.
pub(crate) const LIST: &str = "roots.json";

/// Where the roots are kept.
pub(crate) trait Roots: Send + Sync {
    /// The roots as they are now, in the order in which they were added. Does not wait.
    fn current(&self, now: OffsetDateTime) -> Result<Arc<Vec<Root>>, StateError>;
    /// Makes the bundle known to those who must trust it, where that is not done elsewhere.
    fn publish(&self, bundle: &str) -> Result<(), StateError>;
}

/// One line of [`LIST`].
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    name: String,
    /// RFC 3339.
    signs_from: String,
}

/// One root as it is stored: PEM texts.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoredRoot {
    /// Name of its files.
    pub(crate) name: String,
    /// The certificate that signs, then those between it and the anchors.
    pub(crate) certificate: String,
    /// What others must trust; absent where the certificate that signs is the root itself.
    pub(crate) anchors: Option<String>,
    /// Its private key.
    pub(crate) key: String,
    /// From when it signs.
    pub(crate) signs_from: OffsetDateTime,
}

impl fmt::Debug for StoredRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRoot")
            .field("name", &self.name)
            .field("signs_from", &self.signs_from)
            .finish_non_exhaustive()
    }
}

/// One root, ready to sign.
pub(crate) struct Root {
    /// What others must trust, PEM.
    pub(crate) anchors: String,
    /// What a leaf carries behind itself, PEM; empty where the root signs itself.
    pub(crate) intermediates: String,
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) signs_from: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl StoredRoot {
    /// Makes a new root for `trust_domain`, the `number`-th of its place.
    pub(crate) fn make(
        trust_domain: &str,
        number: usize,
        now: OffsetDateTime,
        signs_from: OffsetDateTime,
    ) -> Result<Self, rcgen::Error> {
        let name = format!("root-{number}-{}", now.unix_timestamp());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // Each root has a name of its own, so that a chain finds its root during a rotation.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        params.distinguished_name.push(DnType::CommonName, format!("posthaste {name}"));
        params.not_before = now - BACKDATE;
        params.not_after = now + ROOT_LIFETIME;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { name, certificate, anchors: None, key: key.serialize_pem(), signs_from })
    }

    /// What others must trust, PEM.
    pub(crate) fn anchors(&self) -> &str {
        self.anchors.as_deref().unwrap_or(&self.certificate)
    }

    /// Parses it; what is wrong is said in words that name the part.
    pub(crate) fn open(&self) -> Result<Root, String> {
        let name = &self.name;
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{name}.crt: {error}"))?;
        let signer = chain.first().ok_or_else(|| format!("{name}.crt holds no certificate"))?;
        let facts = Facts::read(signer).map_err(|error| format!("{name}.crt: {error}"))?;
        let key = KeyPair::from_pem(&self.key).map_err(|error| format!("{name}.key: {error}"))?;
        if facts.public_key != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(format!("{name}: key and certificate do not belong together"));
        }
        let issuer = Issuer::from_ca_cert_der(signer, key).map_err(|error| format!("{name}.crt: {error}"))?;
        let intermediates = if self.anchors.is_some() { self.certificate.clone() } else { String::new() };
        Ok(Root {
            anchors: self.anchors().to_owned(),
            intermediates,
            issuer,
            signs_from: self.signs_from,
            not_after: facts.not_after,
        })
    }

    /// Its files by name, without the list.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![
            (format!("{}.key", self.name), self.key.clone()),
            (format!("{}.crt", self.name), self.certificate.clone()),
        ];
        files.extend(self.anchors.iter().map(|anchors| (anchors_file(&self.name), anchors.clone())));
        files
    }
}

fn anchors_file(name: &str) -> String {
    format!("{name}.anchors.crt")
}

/// The text of [`LIST`].
pub(crate) fn write_list(roots: &[StoredRoot]) -> Result<String, String> {
    let listed = |root: &StoredRoot| {
        let signs_from = root.signs_from.format(&Rfc3339).map_err(|error| error.to_string())?;
        Ok(Listed { name: root.name.clone(), signs_from })
    };
    let list: Vec<Listed> = roots.iter().map(listed).collect::<Result<_, String>>()?;
    serde_json::to_string_pretty(&list).map_err(|error| error.to_string())
}

/// Reads the roots that the text of [`LIST`] names; `read` answers a file's text, `None` where it is missing.
pub(crate) fn read_all<E: From<String>>(
    list: &str,
    mut read: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<Vec<StoredRoot>, E> {
    let listed: Vec<Listed> = serde_json::from_str(list).map_err(|error| format!("{LIST}: {error}"))?;
    if listed.is_empty() {
        return Err(format!("{LIST} lists no root").into());
    }
    let mut roots = Vec::new();
    for Listed { name, signs_from } in listed {
        if name.contains(['/', '.']) {
            return Err(format!("{LIST}: `{name}` is no name of a root").into());
        }
        let signs_from = OffsetDateTime::parse(&signs_from, &Rfc3339)
            .map_err(|error| format!("{LIST}: `signs_from` of {name}: {error}"))?;
        let mut need = |file: String| -> Result<String, E> {
            read(&file)?.ok_or_else(|| format!("{LIST} lists {name}, but {file} is missing").into())
        };
        let (key, certificate) = (need(format!("{name}.key"))?, need(format!("{name}.crt"))?);
        let anchors = read(&anchors_file(&name))?;
        roots.push(StoredRoot { name, certificate, anchors, key, signs_from });
    }
    Ok(roots)
}

/// Which of the roots others must trust at `now`, where leaves live for at most `longest`.
fn trusted(starts: &[OffsetDateTime], now: OffsetDateTime, longest: std::time::Duration) -> Vec<bool> {
    rotation::trusted(starts, now, Duration::try_from(longest).unwrap_or(Duration::MAX))
}

/// The stored roots that are still needed at `now`.
pub(crate) fn needed(
    roots: &[StoredRoot],
    now: OffsetDateTime,
    longest: std::time::Duration,
) -> Vec<StoredRoot> {
    let starts: Vec<_> = roots.iter().map(|root| root.signs_from).collect();
    let kept = roots.iter().zip(trusted(&starts, now, longest));
    kept.filter(|(_, needed)| *needed).map(|(root, _)| root.clone()).collect()
}

/// The trust bundle at `now`, PEM: the anchors of all roots that are still needed, each once.
pub(crate) fn bundle(roots: &[Root], now: OffsetDateTime, longest: std::time::Duration) -> String {
    let starts: Vec<_> = roots.iter().map(|root| root.signs_from).collect();
    let mut texts: Vec<&str> = Vec::new();
    for (root, needed) in roots.iter().zip(trusted(&starts, now, longest)) {
        if needed && !texts.contains(&root.anchors.as_str()) {
            texts.push(&root.anchors);
        }
    }
    texts.iter().map(|text| format!("{}\n", text.trim_end())).collect()
}
