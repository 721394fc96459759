//! Checks a signing request: whose certificate it asks for, and that whoever sent it holds the key. Pure.

use rcgen::{CertificateSigningRequestParams, PublicKey, SanType};

use crate::snapshot::spiffe::SpiffeId;

/// Why a request is refused; each names the field of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No PKCS #10, or its signature does not hold.
    #[error("field `csr`: {0}; expected a PEM signing request signed with its own key")]
    Csr(String),
    /// The URI names are not one SPIFFE identity.
    #[error("field `csr`: the subject alternative names must be exactly one SPIFFE URI, they are {0}")]
    Names(String),
    /// The metadata names no SPIFFE identity.
    #[error("field `metadata.ImpersonatedIdentity`: {0}")]
    Impersonated(String),
    /// Nobody is named.
    #[error("neither field `metadata.ImpersonatedIdentity` nor the `csr` names an identity")]
    Nobody,
    /// Request and metadata name two workloads.
    #[error("field `csr` asks for {csr}, but field `metadata.ImpersonatedIdentity` for {impersonated}")]
    Contradiction {
        /// In the signing request.
        csr: SpiffeId,
        /// In the metadata.
        impersonated: SpiffeId,
    },
    /// Another mesh.
    #[error("{asked} is not of the trust domain `{own}` of this CA")]
    TrustDomain {
        /// The identity asked for.
        asked: SpiffeId,
        /// The CA's trust domain.
        own: String,
    },
}

/// The identity and the key to certify.
pub(crate) fn check(
    csr: &str,
    impersonated: Option<&str>,
    trust_domain: &str,
) -> Result<(SpiffeId, PublicKey), RequestError> {
    let parsed = CertificateSigningRequestParams::from_pem(csr)
        .map_err(|error| RequestError::Csr(error.to_string()))?;
    let named = named(&parsed.params.subject_alt_names)?;
    let impersonated = match impersonated {
        Some(text) => Some(text.parse().map_err(|error| RequestError::Impersonated(format!("{error}")))?),
        None => None,
    };
    let id: SpiffeId = match (named, impersonated) {
        (Some(csr), Some(impersonated)) if csr != impersonated => {
            return Err(RequestError::Contradiction { csr, impersonated });
        }
        (named, impersonated) => impersonated.or(named).ok_or(RequestError::Nobody)?,
    };
    if id.trust_domain() != trust_domain {
        return Err(RequestError::TrustDomain { asked: id, own: trust_domain.to_owned() });
    }
    Ok((id, parsed.public_key))
}

fn named(names: &[SanType]) -> Result<Option<SpiffeId>, RequestError> {
    match names {
        [] => Ok(None),
        [SanType::URI(uri)] => match uri.as_str().parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => {
                Err(RequestError::Names(format!("`{}`", uri.as_str().chars().take(200).collect::<String>())))
            }
        },
        several => Err(RequestError::Names(format!("{} names of other kinds", several.len()))),
    }
}
