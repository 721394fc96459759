//! Where the objects come from: a folder of manifests, or an API server.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    config::AgentArguments,
    control::{
        captured::CapturedPods,
        files::{FileSource, FilesError},
        kubernetes::{
            self, KubernetesSource,
            annotate::Annotator,
            connect::{self, ConnectError},
        },
        reading::Reading,
    },
    worker::peers::AskForPod,
};

/// Why there is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The manifests.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Starts the one that the flags name, on the calling runtime; with it, how it is asked for pods that it has not read.
///
/// # Errors
/// It cannot be used as it was named.
pub async fn start(
    arguments: &AgentArguments,
) -> Result<(watch::Receiver<Arc<Reading>>, AskForPod), SourceError> {
    if let Some(folder) = &arguments.manifests {
        // A folder holds every pod, so that nobody has to be asked for.
        return Ok((FileSource::start(folder)?, Arc::new(|_| ())));
    }
    let options = kubernetes::Options {
        kubeconfig: arguments.kubeconfig.clone(),
        node: arguments.node.as_str().into(),
        state: arguments.state.clone(),
    };
    let (readings, asked) = KubernetesSource::start(&options).await?;
    // A queue that is full is emptied soon, and who waits asks again.
    Ok((readings, Arc::new(move |pod| drop(asked.try_send(pod)))))
}

/// Starts telling other nodes what this one captures, where there is an API server to tell it to.
///
/// # Errors
/// It cannot be used as it was named.
pub async fn tell(
    arguments: &AgentArguments,
    readings: watch::Receiver<Arc<Reading>>,
    captured: watch::Receiver<Arc<CapturedPods>>,
) -> Result<Option<Annotator>, SourceError> {
    if arguments.manifests.is_some() {
        return Ok(None);
    }
    let client = connect::connect(arguments.kubeconfig.as_deref()).await?.client;
    Ok(Some(Annotator::start(client, arguments.node.as_str().into(), readings, captured)))
}
