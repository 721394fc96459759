//! The pods of the cluster, followed by a watch: only where they run and as whom is kept.

use std::sync::{Arc, PoisonError, RwLock};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};

use super::placement::{Place, Placement};

/// Pods that have ended hold no identity.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Shared by the watch and those who ask.
#[derive(Clone)]
pub(crate) struct Pods {
    client: Client,
    /// None until the first list is complete.
    placement: Arc<RwLock<Option<Placement>>>,
}

impl Pods {
    /// Starts the watch on the calling runtime.
    pub(crate) fn follow(client: Client) -> Self {
        let pods = Self { client, placement: Arc::default() };
        tokio::spawn(pods.clone().watch());
        pods
    }

    /// Whether all pods are known.
    pub(crate) fn is_synced(&self) -> bool {
        self.read(|_| ()).is_some()
    }

    /// Whether a pod of that service account runs on `node`, as far as the watch knows.
    pub(crate) fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        self.read(|placement| placement.runs(node, namespace, account)).unwrap_or(false)
    }

    /// The node of the pod `uid`, as far as the watch knows.
    pub(crate) fn node_of(&self, uid: &str) -> Option<String> {
        self.read(|placement| placement.place(uid).map(|place| place.node.to_string())).flatten()
    }

    /// The same as [`Pods::runs`], asked of the API server now.
    pub(crate) async fn look_for(
        &self,
        node: &str,
        namespace: &str,
        account: &str,
    ) -> Result<bool, kube::Error> {
        // The namespace is what a stranger wrote: it is compared, and no part of the question.
        let found = list(&Api::all(self.client.clone()), &format!("spec.nodeName={node},{RUNNING}")).await?;
        let same = |place: Place| &*place.namespace == namespace && &*place.account == account;
        Ok(found.iter().filter_map(place).any(same))
    }

    /// The node of one pod, asked of the API server now; `account` is `namespace/name`.
    pub(crate) async fn look_up(
        &self,
        account: &str,
        pod: &str,
        uid: &str,
    ) -> Result<Option<String>, kube::Error> {
        let namespace = account.split_once('/').map_or("", |(namespace, _)| namespace);
        let pods = Api::namespaced(self.client.clone(), namespace);
        let found = list(&pods, &format!("metadata.name={pod},{RUNNING}")).await?;
        let same = found.iter().find(|found| found.metadata.uid.as_deref() == Some(uid));
        Ok(same.and_then(place).map(|place| place.node.to_string()))
    }

    fn read<T>(&self, question: impl FnOnce(&Placement) -> T) -> Option<T> {
        self.placement.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(question)
    }

    async fn watch(self) {
        let config = watcher::Config::default().fields(RUNNING);
        let events = watcher(Api::<Pod>::all(self.client.clone()), config).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut fresh = Placement::default();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => fresh = Placement::default(),
                Ok(Event::InitApply(pod)) => fresh.set(&uid(&pod), place(&pod)),
                // A new list replaces all that was known, in one step.
                Ok(Event::InitDone) => self.replace(std::mem::take(&mut fresh)),
                Ok(Event::Apply(pod)) => self.set(&pod, place(&pod)),
                Ok(Event::Delete(pod)) => self.set(&pod, None),
                Err(error) => tracing::warn!(%error, "the watch of pods; it is tried again"),
            }
        }
    }

    fn replace(&self, placement: Placement) {
        tracing::info!(pods = placement.len(), "the pods of the cluster are known");
        *self.placement.write().unwrap_or_else(PoisonError::into_inner) = Some(placement);
    }

    fn set(&self, pod: &Pod, place: Option<Place>) {
        let mut placement = self.placement.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(placement) = placement.as_mut() {
            placement.set(&uid(pod), place);
        }
    }
}

async fn list(pods: &Api<Pod>, fields: &str) -> Result<Vec<Pod>, kube::Error> {
    Ok(pods.list(&ListParams::default().fields(fields)).await?.items)
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// Where a pod runs; a pod that has ended, or is not placed yet, runs nowhere.
fn place(pod: &Pod) -> Option<Place> {
    let ended = |phase: &str| phase == "Succeeded" || phase == "Failed";
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let spec = pod.spec.as_ref().filter(|_| !phase.is_some_and(ended))?;
    Some(Place {
        namespace: pod.metadata.namespace.as_deref()?.into(),
        account: spec.service_account_name.as_deref().unwrap_or("default").into(),
        node: spec.node_name.as_deref().filter(|node| !node.is_empty())?.into(),
    })
}
