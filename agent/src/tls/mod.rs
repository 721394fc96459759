//! Mutual TLS between two agents: who may speak to whom, decided by SPIFFE identities and never by names or addresses.
//!
//! A [`TlsIdentity`] is built once per certificate and holds both rustls configurations; [`connect`] and [`accept`]
//! shake hands with it. What is refused: anything but TLS 1.3, a peer without a certificate, a chain that does not end
//! in the trust bundle, another identity than the expected one (client), another trust domain than our own (server),
//! and a resumed session whose certificate is no longer valid. What is trusted may
//! change while a connection stands: [`lost`] tells.

mod bundle;
mod certificate;
mod clock;
mod error;
mod handshake;
mod identity;
mod provider;
mod server_name;
#[cfg(test)]
pub(crate) mod test_authority;
#[cfg(test)]
mod tests;
mod trust;
mod verify;

pub use bundle::{Bundle, BundleError};
pub use certificate::{Facts, MalformedCertificate};
pub use clock::Clock;
pub use error::TlsError;
pub use handshake::{BUFFER_LIMIT, accept, connect};
pub use identity::{BuildError, Credentials, TlsIdentity};
pub use provider::provider;
pub(crate) use provider::sha256;
pub use trust::{MalformedList, Revocations, Trust, Untrusted, lost};
