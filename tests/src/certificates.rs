//! Certificates that a mesh must refuse, and the ones beside them that it takes: written to files for `openssl`.

use crate::{Doing, Fault};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};

/// Who signs.
#[derive(Debug)]
pub struct Signer {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

/// Files of one certificate.
#[derive(Debug, Clone)]
pub struct Files {
    /// Certificate.
    pub certificate: PathBuf,
    /// Key.
    pub key: PathBuf,
}

/// Whether a certificate is valid now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From an hour ago for a day.
    Now,
    /// Until an hour ago.
    Expired,
}

impl Signer {
    /// A root that nobody trusts.
    ///
    /// # Errors
    /// No key can be made.
    pub fn stranger() -> Result<Self, Fault> {
        let mut parameters = parameters("stranger", &[], Validity::Now)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(|error| Fault::new(error.to_string()))?;
        let root = parameters.self_signed(&key).map_err(|error| Fault::new(error.to_string()))?.pem();
        Ok(Self { issuer: Issuer::new(parameters, key), root })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Its private key, PEM.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The CA of a world, from its state folder (`root.pem` and the key beside it): to make what it would never issue.
    ///
    /// # Errors
    /// There is no key in the folder, or it does not fit.
    pub fn of_mesh(state: &Path) -> Result<Self, Fault> {
        let certificate = fs::read_to_string(state.join("root.pem")).doing("read root.pem")?;
        let mut tried = String::new();
        for entry in fs::read_dir(state).doing("list the state of the CA")?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            if !text.contains("PRIVATE KEY") {
                continue;
            }
            let key = KeyPair::from_pem(&text).map_err(|error| Fault::new(error.to_string()))?;
            match Issuer::from_ca_cert_pem(&certificate, key) {
                Ok(issuer) => return Ok(Self { issuer, root: certificate }),
                Err(error) => tried = error.to_string(),
            }
        }
        Err(Fault::new(format!("no key for root.pem in {} {tried}", state.display())))
    }

    /// A revocation list, PEM, that names one serial number, hexadecimal.
    ///
    /// # Errors
    /// It is not hexadecimal.
    pub fn revoke(&self, serial: &str) -> Result<String, Fault> {
        let unexpected = |error: rcgen::Error| Fault::new(error.to_string());
        let digits: Option<Vec<u32>> = serial.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.ok_or_else(|| Fault::new(format!("`{serial}` is not hexadecimal")))?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |sum, digit| sum * 16 + *digit as u8)).collect();
        let now = OffsetDateTime::now_utc();
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::hours(1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).map_err(unexpected)?.pem().map_err(unexpected)
    }

    /// A certificate for these URIs, written to `<stem>.crt` and `<stem>.key`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn issue(&self, uris: &[&str], validity: Validity, stem: &Path) -> Result<Files, Fault> {
        let unexpected = |error: rcgen::Error| Fault::new(error.to_string());
        let mut parameters = parameters("leaf", uris, validity)?;
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(unexpected)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(unexpected)?;
        let files = Files { certificate: stem.with_extension("crt"), key: stem.with_extension("key") };
        fs::write(&files.certificate, certificate.pem()).doing("write a certificate")?;
        fs::write(&files.key, key.serialize_pem()).doing("write a key")?;
        Ok(files)
    }
}

fn parameters(name: &str, uris: &[&str], validity: Validity) -> Result<CertificateParams, Fault> {
    let mut parameters = CertificateParams::default();
    // A leaf that is named like its root would read as self-signed.
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let (now, hour) = (OffsetDateTime::now_utc(), Duration::hours(1));
    (parameters.not_before, parameters.not_after) = match validity {
        Validity::Now => (now - hour, now + hour * 24),
        Validity::Expired => (now - hour * 3, now - hour),
    };
    for uri in uris {
        let uri = (*uri).try_into().map_err(|_| Fault::new(format!("`{uri}` is not ASCII")))?;
        parameters.subject_alt_names.push(SanType::URI(uri));
    }
    Ok(parameters)
}
