//! Why a handshake failed, told apart as far as an operator can act on it. Pure.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::verify::NotAllowed;
use crate::snapshot::spiffe::SpiffeId;

/// One handshake that did not give a connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server is not the workload that should be at that address.
    #[error("expected {expected} but the peer presented {presented:?}")]
    WrongIdentity {
        /// Whom the connection was for.
        expected: SpiffeId,
        /// The URI names in the peer's certificate.
        presented: Vec<String>,
    },
    /// The peer's certificate has no single SPIFFE identity.
    #[error("the peer's certificate must carry exactly one SPIFFE identity, it has {presented:?}")]
    NoIdentity {
        /// The URI names in the peer's certificate.
        presented: Vec<String>,
    },
    /// The peer belongs to another mesh.
    #[error("the peer is {presented}, our trust domain is `{own}`")]
    WrongTrustDomain {
        /// Our trust domain.
        own: String,
        /// The peer's identity.
        presented: SpiffeId,
    },
    /// The peer's certificate is over, or not valid yet (then compare the clocks).
    #[error("the peer's certificate is not valid now: {0}")]
    Expired(String),
    /// The chain does not end in our trust bundle.
    #[error("the peer's certificate is not signed by a root of our trust bundle")]
    UnknownIssuer,
    /// The peer showed no certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The peer does not speak TLS 1.3.
    #[error("the peer does not speak TLS 1.3: {0}")]
    ProtocolVersion(String),
    /// The peer ended the handshake; the alert (RFC 8446, 6.2) hints at why.
    #[error("the peer refused the handshake with the alert {0:?}")]
    RefusedByPeer(AlertDescription),
    /// Any other violation of the protocol.
    #[error("handshake: {0}")]
    Handshake(Error),
    /// The connection broke, or closed early.
    #[error("connection broke during the handshake: {0}")]
    Io(#[source] io::Error),
}

impl TlsError {
    /// The value of the metric label `response_flags`.
    #[must_use]
    pub fn response_flag(&self) -> &'static str {
        match self {
            Self::WrongIdentity { .. } | Self::NoIdentity { .. } | Self::WrongTrustDomain { .. } => {
                "IDENTITY_ERROR"
            }
            _ => "TLS_FAILURE",
        }
    }

    /// What an error of a client's stream means. In TLS 1.3 a server refuses a client's certificate after the client's
    /// handshake is over, so call this also for errors of the first reads.
    #[must_use]
    pub fn of_client(error: io::Error, expected: &SpiffeId) -> Self {
        Self::split(error, |reason| match reason {
            NotAllowed::Identity(presented) | NotAllowed::NoIdentity(presented) => {
                Self::WrongIdentity { expected: expected.clone(), presented: presented.clone() }
            }
            NotAllowed::TrustDomain(id) => {
                Self::WrongIdentity { expected: expected.clone(), presented: vec![id.to_string()] }
            }
        })
    }

    /// What an error of a server's stream means; `own` is our trust domain.
    #[must_use]
    pub fn of_server(error: io::Error, own: &str) -> Self {
        Self::split(error, |reason| Self::not_allowed(reason, own))
    }

    pub(crate) fn not_allowed(reason: &NotAllowed, own: &str) -> Self {
        match reason {
            NotAllowed::Identity(presented) | NotAllowed::NoIdentity(presented) => {
                Self::NoIdentity { presented: presented.clone() }
            }
            NotAllowed::TrustDomain(id) => {
                Self::WrongTrustDomain { own: own.to_owned(), presented: id.clone() }
            }
        }
    }

    fn split(error: io::Error, not_allowed: impl Fn(&NotAllowed) -> Self) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Io(error);
        };
        match tls {
            Error::InvalidCertificate(reason) => Self::of_certificate(reason, tls, not_allowed),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(reason) => Self::of_incompatible(reason, tls),
            Error::AlertReceived(AlertDescription::ProtocolVersion) => {
                Self::ProtocolVersion("the peer sent the alert protocol_version".to_owned())
            }
            Error::AlertReceived(alert) => Self::RefusedByPeer(*alert),
            other => Self::Handshake(other.clone()),
        }
    }

    fn of_certificate(
        reason: &CertificateError,
        all: &Error,
        not_allowed: impl Fn(&NotAllowed) -> Self,
    ) -> Self {
        use CertificateError as C;
        match reason {
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                Self::Expired(reason.to_string())
            }
            C::UnknownIssuer => Self::UnknownIssuer,
            C::Other(other) => match other.0.downcast_ref::<NotAllowed>() {
                Some(reason) => not_allowed(reason),
                None => Self::Handshake(all.clone()),
            },
            _ => Self::Handshake(all.clone()),
        }
    }

    fn of_incompatible(reason: &PeerIncompatible, all: &Error) -> Self {
        use PeerIncompatible as P;
        match reason {
            P::Tls12NotOffered
            | P::Tls12NotOfferedOrEnabled
            | P::Tls13RequiredForQuic
            | P::ServerDoesNotSupportTls12Or13
            | P::SupportedVersionsExtensionRequired
            | P::ServerTlsVersionIsDisabledByOurConfig => Self::ProtocolVersion(format!("{reason:?}")),
            _ => Self::Handshake(all.clone()),
        }
    }
}
