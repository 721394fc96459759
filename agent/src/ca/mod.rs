//! The certificate authority: `posthaste ca` serves the Istio CA gRPC API, and the same [`Authority`] runs inside an agent.
//!
//! Roots live in a state folder that only its owner may read, or in a Secret of a cluster (`cluster`); leaves are signed by the
//! root that is active now. What is refused: a caller without a good token, a request whose signature does not hold, another
//! trust domain, an identity that the request itself contradicts or, in a cluster, whose pods run elsewhere, and a state folder
//! or token file that others may read.

pub mod api;
mod authority;
pub mod cluster;
mod counts;
mod gate;
mod listen;
mod rate;
mod request;
mod roots;
mod rotation;
mod service;
mod state;
#[cfg(test)]
mod tests;
mod tokens;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use authority::{Authority, AuthorityOptions, IssuedLeaf, SigningError, SigningOptions};
pub use listen::{Bound, bind};
pub use request::RequestError;
pub use state::StateError;
pub use tokens::TokenError;

use crate::tls::Clock;

/// What `posthaste ca` is started with.
#[derive(Debug, Clone)]
pub struct CaOptions {
    /// Roots, limits and the state folder.
    pub authority: AuthorityOptions,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Join tokens, one a line, optionally `node-name token`.
    pub token_file: PathBuf,
    /// Further DNS names or addresses for the CA's own certificate.
    pub names: Vec<String>,
}

/// Why the CA does not run.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The token file.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterError),
    /// Its own certificate.
    #[error("the CA's own certificate: {0}")]
    Certificate(#[from] SigningError),
    /// TLS settings.
    #[error("the CA's TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// The listening socket.
    #[error("cannot listen on --listen {address}: {source}; name an address of this machine and a free port")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs the CA until `stop` is ready. Must be called in a tokio runtime.
pub async fn run(options: CaOptions, stop: impl Future<Output = ()> + Send) -> Result<(), CaError> {
    bind(options, Clock::system()).await?.serve(stop).await;
    Ok(())
}

/// Adds a root to the bundle of the state folder; it signs once `overlap` (default: the longest leaf lifetime) is over.
/// A running CA takes it over by itself. Returns what was done, for the operator.
pub fn rotate(options: &AuthorityOptions, overlap: Option<Duration>) -> Result<String, CaError> {
    let clock = Clock::system();
    let overlap = overlap.unwrap_or(options.signing.longest_validity);
    let folder = state::StateFolder::open(&options.state)?;
    let signs_from = folder.add_root(&options.signing.trust_domain, clock.date(), Some(overlap))?;
    Ok(format!("added a root; it signs from {signs_from}, until then agents learn to trust it"))
}
