//! How a worker learns who a pod of another node is: it asks, and waits until a snapshot knows. A node whose source holds every pod
//! never has to.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::snapshot::{Peer, PodKey, Snapshot, Workload};

/// Asks the source for a pod; must not block. May be called again and again.
pub type AskForPod = Arc<dyn Fn(PodKey) + Send + Sync>;

/// An answer that was lost is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Nobody could say in time who the pod is.
#[derive(Debug, PartialEq, Eq)]
pub struct Unresolved;

/// See the head of this file.
#[derive(Clone)]
pub struct Peers {
    ask: AskForPod,
    /// Generations of the published snapshot.
    published: watch::Receiver<u64>,
}

impl Peers {
    /// Asks with `ask`; `published` tells of each snapshot after it can be loaded.
    #[must_use]
    pub fn new(ask: AskForPod, published: watch::Receiver<u64>) -> Self {
        Self { ask, published }
    }

    /// Asks anew for a pod that is known: something may have been said of it since.
    pub fn ask_again(&self, pod: &Workload) {
        let (namespace, name) = (Arc::clone(&pod.namespace), (*pod.name).into());
        (self.ask)(PodKey { namespace, name, uid: (*pod.uid).into() });
    }

    /// Who stands at an address; none where that is outside the mesh.
    ///
    /// # Errors
    /// It is a pod of the mesh, and nobody said in time who.
    pub async fn find(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        address: IpAddr,
        deadline: Instant,
    ) -> Result<Option<Arc<Workload>>, Unresolved> {
        let mut published = self.published.clone();
        loop {
            // Before the look, so that what is published meanwhile is not missed.
            published.borrow_and_update();
            match snapshot.load().peer(address) {
                Peer::Known(workload) => return Ok(Some(Arc::clone(workload))),
                Peer::Outside => return Ok(None),
                Peer::Unknown(pod) => (self.ask)(pod),
            }
            let again = Instant::now() + AGAIN;
            if timeout_at(again.min(deadline), published.changed()).await.is_ok_and(|told| told.is_err()) {
                return Err(Unresolved);
            }
            if Instant::now() >= deadline {
                return Err(Unresolved);
            }
        }
    }
}
