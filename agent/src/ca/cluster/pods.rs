//! The pods of the cluster, followed by a watch: only where they run and as whom is kept.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::time::timeout;

use super::placement::{Place, Placement};

/// Pods that have ended hold no identity.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Pods of one page of a list.
const PAGE: u32 = 500;
/// How long the server lets a watch live, seconds.
const SHORTEST_WATCH: u32 = 240;
const LONGEST_WATCH: u32 = 290;
/// One that is silent for so much longer is dead.
const GRACE: Duration = Duration::from_secs(15);
/// Pauses while the server does not answer.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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

    /// Follows for ever; whatever happens, what is known stays in force until a new list is whole.
    async fn watch(self) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let mut pause = FIRST_PAUSE;
        loop {
            match self.run(&pods, &mut pause).await {
                Ok(()) => tracing::info!("the watch of pods fell silent; listing anew"),
                Err(error) => tracing::warn!(%error, "the watch of pods; it is tried again"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One list, then events until something goes wrong. `pause` is the shortest again once it works.
    async fn run(&self, pods: &Api<Pod>, pause: &mut Duration) -> Result<(), kube::Error> {
        let mut place = self.list_all(pods).await?;
        *pause = FIRST_PAUSE;
        loop {
            let seconds = fastrand::u32(SHORTEST_WATCH..LONGEST_WATCH);
            let parameters = WatchParams::default().fields(RUNNING).timeout(seconds);
            let mut events = std::pin::pin!(pods.watch(&parameters, &place).await?);
            let limit = Duration::from_secs(u64::from(seconds)) + GRACE;
            loop {
                let Ok(event) = timeout(limit, events.try_next()).await else { return Ok(()) };
                let Some(event) = event? else { break };
                place = self.take(event)?.filter(|version| !version.is_empty()).unwrap_or(place);
            }
        }
    }

    /// Takes one event; answers with its place in the server's history.
    fn take(&self, event: WatchEvent<Pod>) -> Result<Option<String>, kube::Error> {
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                self.set(&pod, place(&pod));
                Ok(pod.metadata.resource_version)
            }
            WatchEvent::Deleted(pod) => {
                self.set(&pod, None);
                Ok(pod.metadata.resource_version)
            }
            WatchEvent::Bookmark(bookmark) => Ok(Some(bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => Err(kube::Error::Api(status)),
        }
    }

    /// Lists page by page; the whole replaces all that was known, in one step.
    async fn list_all(&self, pods: &Api<Pod>) -> Result<String, kube::Error> {
        let mut fresh = Placement::default();
        let mut parameters = ListParams::default().fields(RUNNING).limit(PAGE);
        loop {
            let page = pods.list(&parameters).await?;
            page.items.iter().for_each(|pod| fresh.set(&uid(pod), place(pod)));
            let Some(next) = page.metadata.continue_.filter(|next| !next.is_empty()) else {
                self.replace(fresh);
                return Ok(page.metadata.resource_version.unwrap_or_default());
            };
            parameters = parameters.continue_token(&next);
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
