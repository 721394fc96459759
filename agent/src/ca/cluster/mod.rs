//! `posthaste ca --kubernetes`: the CA as a Deployment. Replicas share nothing but one Secret, and whoever wins its creation
//! makes the root; agents are known by their tokens and get certificates for the pods of their own node. Beside it the status of
//! policies is written.

mod caller;
mod gate;
mod health;
mod keeper;
mod objects;
mod placement;
mod plan;
mod pods;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub(crate) use gate::ClusterGate;
use kube::Client;
use pods::Pods;

use super::{
    CaError,
    authority::{Authority, SigningOptions},
    counts::Counts,
    gate::Gate,
    listen::{self, Serving},
};
use crate::{
    control::kubernetes::{
        connect::{ConnectError, connect},
        policy_status,
    },
    tls::Clock,
};
use keeper::{Keeper, Names};

/// What `posthaste ca --kubernetes` is started with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// What is signed.
    pub signing: SigningOptions,
    /// Kubeconfig; the pod's own service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the CA's Secret and ConfigMap.
    pub namespace: String,
    /// Audience that tokens must have.
    pub audience: String,
    /// `namespace/name` of the service accounts whose pods may ask.
    pub agent_accounts: Vec<String>,
    /// How long a new root is trusted before it signs; the longest leaf and a margin where there is none.
    pub overlap: Option<Duration>,
    /// Where to serve the Istio CA API.
    pub listen: SocketAddr,
    /// Where to serve `/healthz`, `/readyz` and `/metrics`.
    pub health: SocketAddr,
    /// Further names in the CA's own certificate.
    pub names: Vec<String>,
}

/// Why the CA of a cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No API server is named, or its address or credentials cannot be used.
    #[error(transparent)]
    Connect(ConnectError),
    /// The API server refused or is away.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The Secret cannot be used.
    #[error("Secret {0}: {1}")]
    Secret(String, String),
    /// The health port.
    #[error("cannot listen on --health-address {address}: {source}; give a free port")]
    Health {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ClusterOptions {
    fn keeper(&self, client: &Client, clock: &Clock) -> Keeper {
        let rules = plan::Rules {
            overlap: self.overlap.unwrap_or(self.signing.longest_validity + plan::MARGIN),
            longest: self.signing.longest_validity,
        };
        let names = Names::of(&self.namespace);
        Keeper::new(client, names, rules, self.signing.trust_domain.clone(), clock.clone())
    }

    /// Names under which agents reach the Service.
    fn names(&self) -> Vec<String> {
        let service = format!("posthaste-ca.{}.svc", self.namespace);
        let mut names = vec![format!("{service}.cluster.local"), service];
        names.extend(self.names.iter().cloned());
        names
    }
}

/// Runs the CA until `stop` is ready. Must be called in a tokio runtime.
///
/// # Errors
/// An address is taken, or the API server cannot be named. One that is away is waited for.
pub async fn run(options: &ClusterOptions, stop: impl Future<Output = ()> + Send) -> Result<(), CaError> {
    let clock = Clock::system();
    let client = connect(options.kubeconfig.as_deref()).await.map_err(ClusterError::Connect)?.client;
    let keeper = Arc::new(options.keeper(&client, &clock));
    let pods = Pods::follow(client.clone());
    // One or two of these in a cluster, and both run here.
    let judging = tokio::spawn(policy_status::keep(client.clone()));
    let accounts = options.agent_accounts.clone();
    let gate = ClusterGate::new(client, pods, options.audience.clone(), accounts, clock.clone());
    let gate = Arc::new(gate);
    let counts = Counts::default();
    health::start(options.health, Arc::clone(&keeper), Arc::clone(&gate), counts.clone()).await?;
    let mut stop = std::pin::pin!(stop);
    tokio::select! {
        () = &mut stop => return Ok(()),
        // Its own certificate needs a root.
        () = keeper.first() => {}
    }
    let following = tokio::spawn(Arc::clone(&keeper).follow());
    let authority = Authority::over(Box::new(keeper.held()), options.signing.clone());
    let serving = Serving {
        authority: Arc::new(authority),
        gate: Gate::Cluster(gate),
        listen: options.listen,
        names: options.names(),
        counts,
    };
    listen::bind_with(serving, clock).await?.serve(stop).await;
    following.abort();
    judging.abort();
    Ok(())
}

/// Adds a root to the Secret; it signs once the overlap is over. Returns what was done, for the operator.
///
/// # Errors
/// The Secret cannot be read or written, or its roots are given by somebody else.
pub async fn rotate(options: &ClusterOptions) -> Result<String, CaError> {
    let connection = connect(options.kubeconfig.as_deref()).await.map_err(ClusterError::Connect)?;
    let keeper = options.keeper(&connection.client, &Clock::system());
    Ok(keeper.rotate().await?)
}
