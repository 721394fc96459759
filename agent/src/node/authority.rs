//! Which CA the agent asks: one over the network, or its own.

use std::{io, sync::Arc, time::Duration};

use crate::{
    ca::{Authority, AuthorityOptions, SigningOptions, StateError},
    config::AgentArguments,
    identity::{
        CaClient, CaClientError, CaClientOptions, CertificateSource, Embedded, IdentityStore, StoreOptions,
    },
    tls::Clock,
};

use super::revocation::{self, RevocationError};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no CA to ask.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Flags that do not fit.
    #[error(
        "name a CA: --ca-address with --ca-root and --join-token-file, or --ca embedded on a single node"
    )]
    NotNamed,
    /// The address.
    #[error(transparent)]
    Client(#[from] CaClientError),
    /// The embedded CA's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The lists of `--crl`.
    #[error(transparent)]
    Revocation(#[from] RevocationError),
    /// A file that must be there.
    #[error("{flag} {path}: {source}")]
    File {
        /// The flag.
        flag: &'static str,
        /// Its value.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts the certificate store on the calling runtime.
///
/// # Errors
/// The flags name no usable CA.
pub fn start(arguments: &AgentArguments) -> Result<IdentityStore, AuthorityError> {
    let clock = Clock::system();
    let source: Arc<dyn CertificateSource> = match &arguments.ca {
        Some(_) => Arc::new(embedded(arguments, &clock)?),
        None => Arc::new(remote(arguments, &clock)?),
    };
    let identities = IdentityStore::start(StoreOptions::default(), source, clock);
    revocation::start(arguments.crl.as_deref(), arguments.ca_root.as_deref(), &identities)?;
    Ok(identities)
}

fn embedded(arguments: &AgentArguments, clock: &Clock) -> Result<Embedded, AuthorityError> {
    let options = AuthorityOptions {
        state: arguments.state.clone(),
        signing: SigningOptions {
            trust_domain: arguments.trust_domain.clone(),
            default_validity: DAY,
            longest_validity: DAY,
        },
    };
    Ok(Embedded::new(Arc::new(Authority::open(options, clock.date())?), clock.clone()))
}

fn remote(arguments: &AgentArguments, clock: &Clock) -> Result<CaClient, AuthorityError> {
    let (Some(url), Some(root_file), Some(token_file)) =
        (&arguments.ca_address, &arguments.ca_root, &arguments.join_token_file)
    else {
        return Err(AuthorityError::NotNamed);
    };
    for (flag, path) in [("--ca-root", root_file), ("--join-token-file", token_file)] {
        std::fs::metadata(path).map_err(|source| AuthorityError::File {
            flag,
            path: path.display().to_string(),
            source,
        })?;
    }
    let options = CaClientOptions {
        url: url.clone(),
        server_name: Some(arguments.ca_name.clone()),
        root_file: root_file.clone(),
        token_file: token_file.clone(),
        cluster_id: Some(arguments.cluster.clone()),
        connect_timeout: CONNECT_TIMEOUT,
    };
    Ok(CaClient::new(options, clock.clone())?)
}

/// How the CA is named to people.
#[must_use]
pub fn name(arguments: &AgentArguments) -> String {
    arguments.ca_address.clone().unwrap_or_else(|| "embedded".to_owned())
}
