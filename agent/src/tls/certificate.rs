//! Reads from a certificate what the mesh wants to know: identities, serial, validity. Pure.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, prelude::FromDer};

use crate::snapshot::spiffe::SpiffeId;

/// A certificate that does not parse, or whose names do not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate cannot be read: {0}")]
pub struct MalformedCertificate(pub String);

/// What one certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The URI names of the subject alternative name extension, in order, as they were written.
    pub uris: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Start of validity.
    pub not_before: OffsetDateTime,
    /// Last second of validity.
    pub not_after: OffsetDateTime,
    /// The subject's public key, DER of SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Reads a certificate in DER (RFC 5280).
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, MalformedCertificate> {
        let malformed = |error: &dyn std::fmt::Display| MalformedCertificate(error.to_string());
        let (_, parsed) =
            x509_parser::certificate::X509Certificate::from_der(der).map_err(|e| malformed(&e))?;
        let names = parsed.subject_alternative_name().map_err(|e| malformed(&e))?;
        let uris = names.iter().flat_map(|extension| extension.value.general_names.iter()).filter_map(uri);
        Ok(Self {
            uris: uris.collect(),
            serial: parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: parsed.validity().not_before.to_datetime(),
            not_after: parsed.validity().not_after.to_datetime(),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    /// The one SPIFFE identity; `None` where there is none, more than one URI, or one of another form.
    #[must_use]
    pub fn identity(&self) -> Option<SpiffeId> {
        match self.uris.as_slice() {
            [only] => only.parse().ok(),
            _ => None,
        }
    }
}

fn uri(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(text) => Some((*text).to_owned()),
        _ => None,
    }
}
