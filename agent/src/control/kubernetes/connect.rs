//! How the API server is reached: the pod's own service account, or a kubeconfig.

use std::path::{Path, PathBuf};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a pod, or without a token.
    #[error(
        "not in a cluster ({0}); run it in a pod that has a service account token, or name a file with --kubeconfig"
    )]
    InCluster(#[from] InClusterError),
    /// The file.
    #[error("--kubeconfig {path}: {source}; name a file that kubectl can use")]
    Kubeconfig {
        /// As it was given.
        path: PathBuf,
        /// What does not fit.
        source: Box<KubeconfigError>,
    },
    /// Keys or certificates that cannot be used.
    #[error("the client of the API server cannot be made: {0}")]
    Client(#[from] Box<kube::Error>),
}

/// A client and where it goes, for people.
#[derive(Clone)]
pub struct Connection {
    /// The client; cheap to clone.
    pub client: Client,
    /// URL of the server.
    pub url: String,
}

/// Reads the configuration; asks nothing of the server yet. Call it within a tokio runtime.
///
/// # Errors
/// There is no configuration, or it cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, ConnectError> {
    let config = match kubeconfig {
        None => Config::incluster()?,
        Some(path) => from_file(path)
            .await
            .map_err(|source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) })?,
    };
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(Box::new)?;
    Ok(Connection { client, url })
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}
