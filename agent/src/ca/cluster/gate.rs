//! Lets in the agents of the cluster, each for the pods of its own node. The API server judges the token (TokenReview); where
//! pods run is known from a watch, and asked for once more before anybody is refused, since a watch lags.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};
use tonic::Status;

use super::{
    caller::{self, Caller, Stranger},
    pods::Pods,
};
use crate::{
    ca::{gate::Asker, rate::Bucket},
    snapshot::spiffe::SpiffeId,
    tls::{Clock, sha256},
};

/// How long a good answer about a token is believed, milliseconds; as long as the API server's own cache. A deleted pod is
/// noticed at once.
const BELIEVED: u64 = 10_000;
/// Questions about pods a second that one node may cause beside the watch, after a burst.
const LOOKS_PER_SECOND: u64 = 5;
const LOOKS_BURST: u64 = 100;
/// Longest token that is looked at, bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// The gate.
pub(crate) struct ClusterGate {
    reviews: Api<TokenReview>,
    pods: Pods,
    audience: String,
    /// `namespace/name` of the service accounts of agents.
    accounts: Vec<String>,
    clock: Clock,
    /// Callers by the hash of their token, and when it was reviewed.
    reviewed: Mutex<HashMap<[u8; 32], (Caller, u64)>>,
    looks: Mutex<HashMap<String, Bucket>>,
}

impl ClusterGate {
    /// A gate that asks `client` and knows of `pods`.
    pub(crate) fn new(
        client: Client,
        pods: Pods,
        audience: String,
        accounts: Vec<String>,
        clock: Clock,
    ) -> Self {
        let (reviewed, looks) = (Mutex::default(), Mutex::default());
        Self { reviews: Api::all(client), pods, audience, accounts, clock, reviewed, looks }
    }

    /// Why it cannot answer yet.
    pub(crate) fn not_ready(&self) -> Option<String> {
        (!self.pods.is_synced()).then(|| "the pods of the cluster are being read".to_owned())
    }

    /// The agent that `token` was made for.
    pub(crate) async fn admit(&self, token: &str) -> Result<Asker, Status> {
        let caller = self.caller(token).await?;
        let node = self.node(&caller).await?;
        Ok(Asker { name: format!("{node}/{}", caller.pod), node: Some(node) })
    }

    /// Whether a pod with the identity runs on `node`.
    pub(crate) async fn allows(&self, node: &str, id: &SpiffeId) -> Result<(), Status> {
        let (namespace, account) = (id.namespace(), id.service_account());
        if self.pods.runs(node, namespace, account) {
            return Ok(());
        }
        self.may_look(node)?;
        let found = self.pods.look_for(node, namespace, account).await;
        match found.map_err(|error| away(&error))? {
            true => Ok(()),
            false => Err(Status::permission_denied(format!(
                "no pod of service account {namespace}/{account} runs on node {node}"
            ))),
        }
    }

    async fn caller(&self, token: &str) -> Result<Caller, Status> {
        if token.len() > LONGEST_TOKEN {
            return Err(Status::unauthenticated("the token is too long"));
        }
        let (hash, now) = (sha256(token.as_bytes()), self.clock.millis());
        let believed = |at: u64| now.saturating_sub(at) < BELIEVED;
        if let Some((caller, _)) = locked(&self.reviewed).get(&hash).filter(|(_, at)| believed(*at)) {
            return Ok(caller.clone());
        }
        let caller = self.review(token).await?;
        let mut reviewed = locked(&self.reviewed);
        reviewed.retain(|_, (_, at)| believed(*at));
        reviewed.insert(hash, (caller.clone(), now));
        Ok(caller)
    }

    async fn review(&self, token: &str) -> Result<Caller, Status> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| away(&error))?.status.unwrap_or_default();
        caller::read(&status, &self.audience, &self.accounts).map_err(|stranger| match stranger {
            Stranger::Account(..) => Status::permission_denied(stranger.to_string()),
            _ => Status::unauthenticated(stranger.to_string()),
        })
    }

    /// The node of the caller's pod; the token and the pod must agree, and the pod must be there.
    async fn node(&self, caller: &Caller) -> Result<String, Status> {
        let known = self.pods.node_of(&caller.pod_uid);
        let node = match known {
            Some(node) => node,
            None => {
                self.may_look(&caller.account)?;
                let found = self.pods.look_up(&caller.account, &caller.pod, &caller.pod_uid).await;
                found.map_err(|error| away(&error))?.ok_or_else(|| {
                    Status::unauthenticated(format!(
                        "the token was made for pod {} of {}, which does not run any more",
                        caller.pod, caller.account
                    ))
                })?
            }
        };
        match &caller.node {
            Some(said) if *said != node => Err(Status::unauthenticated(format!(
                "the token says node {said}, but its pod {} runs on node {node}",
                caller.pod
            ))),
            _ => Ok(node),
        }
    }

    fn may_look(&self, whose: &str) -> Result<(), Status> {
        let now = self.clock.millis();
        let mut looks = locked(&self.looks);
        let bucket =
            looks.entry(whose.to_owned()).or_insert_with(|| Bucket::new(LOOKS_PER_SECOND, LOOKS_BURST, now));
        match bucket.take(now) {
            true => Ok(()),
            false => Err(Status::resource_exhausted("too many questions about pods that are not there")),
        }
    }
}

fn away(error: &kube::Error) -> Status {
    tracing::warn!(%error, "the API server cannot be asked");
    Status::unavailable(format!("the CA cannot ask the API server: {error}"))
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
