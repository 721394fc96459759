//! A client of the API server from a kubeconfig, as kubectl would have it.

use super::{find::FindError, install::ManifestError, place::Place};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::find;

/// Label of the agents' pods.
pub(super) const AGENTS: &str = "app.kubernetes.io/name=posthaste-agent";

/// Why a cluster cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, or not one.
    #[error("kubeconfig: {0}; name one with --kubeconfig and --context that kubectl can use")]
    Kubeconfig(#[from] Box<KubeconfigError>),
    /// The server said no, or nothing.
    #[error("cannot {what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// What the server said, and what to do.
        reason: String,
    },
    /// No agent to ask.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The way to the pod.
    #[error("cannot forward to agent {agent}: {reason}")]
    Forward {
        /// `namespace/name`.
        agent: String,
        /// What was said.
        reason: String,
    },
    /// Nothing to install.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// No threads, no descriptors.
    #[error("cannot start the event loop: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Reads the kubeconfig; asks nothing yet.
pub(super) async fn client(place: &Place) -> Result<Client, ClusterError> {
    let file = match &place.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let options = KubeConfigOptions { context: place.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(file.map_err(Box::new)?, &options).await.map_err(Box::new)?;
    Client::try_from(config).map_err(|error| refused("make a client of the API server", &error))
}

/// The agent that answers for the place.
pub(super) async fn agent(client: &Client, place: &Place) -> Result<Pod, ClusterError> {
    let node = match &place.pod {
        Some(pod) => {
            let (namespace, name) = find::pod_name(pod)?;
            let found = Api::<Pod>::namespaced(client.clone(), namespace).get(name).await;
            let found = found.map_err(|error| refused(&format!("read pod {pod}"), &error))?;
            Some(find::node_of_pod(&found)?.to_owned())
        }
        None => place.node.clone(),
    };
    let agents = agents(client, &place.system_namespace).await?;
    Ok(find::agent(&agents, node.as_deref(), &place.system_namespace)?.clone())
}

/// All agents.
pub(super) async fn agents(client: &Client, system: &str) -> Result<Vec<Pod>, ClusterError> {
    let pods =
        Api::<Pod>::namespaced(client.clone(), system).list(&ListParams::default().labels(AGENTS)).await;
    Ok(pods.map_err(|error| refused(&format!("list the agents in namespace {system}"), &error))?.items)
}

/// What the server said, with what helps.
pub(super) fn refused(what: &str, error: &kube::Error) -> ClusterError {
    let reason = match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("{}; ask for the rights, or use another --context", status.message)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text.push_str(&format!(": {cause_text}"));
                }
                source = cause.source();
            }
            text
        }
    };
    ClusterError::Refused { what: what.to_owned(), reason }
}
