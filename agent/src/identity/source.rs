//! Where certificates come from: one seam with two implementations, the gRPC client and the CA in this process.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{ca::Authority, snapshot::spiffe::SpiffeId, tls::Clock};

/// The answer to one request, as the Istio CA API shapes it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM texts: leaf, intermediates, last the roots concatenated.
    pub cert_chain: Vec<String>,
}

/// Why no certificate came.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IssueError {
    /// The CA is away or overloaded, or a file that is needed cannot be read; worth trying again.
    #[error("{0}")]
    Unavailable(String),
    /// The CA said no; waiting does not help, mending the configuration does.
    #[error("{0}")]
    Refused(String),
}

/// The future of one request.
pub type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Issued, IssueError>> + Send + 'a>>;

/// Signs requests for the identities of this node.
pub trait CertificateSource: Send + Sync {
    /// Asks for a certificate of `id`; `csr` is PKCS #10 in PEM, `validity` what the agent would like.
    fn issue<'a>(&'a self, id: &'a SpiffeId, csr: &'a str, validity: Duration) -> Issuing<'a>;
}

/// The CA inside this process (`--ca embedded`).
pub struct Embedded {
    authority: Arc<Authority>,
    clock: Clock,
}

impl Embedded {
    /// Asks `authority` directly.
    #[must_use]
    pub fn new(authority: Arc<Authority>, clock: Clock) -> Self {
        Self { authority, clock }
    }
}

impl CertificateSource for Embedded {
    fn issue<'a>(&'a self, id: &'a SpiffeId, csr: &'a str, validity: Duration) -> Issuing<'a> {
        Box::pin(async move {
            let issued = self.authority.issue(csr, Some(id.as_str()), Some(validity), self.clock.date());
            match issued {
                Ok(leaf) => Ok(Issued { cert_chain: leaf.cert_chain }),
                Err(error) if error.is_request_fault() => Err(IssueError::Refused(error.to_string())),
                Err(error) => Err(IssueError::Unavailable(error.to_string())),
            }
        })
    }
}
