//! Who listens to which requests as they end. Bounded: a listener that is too slow misses some, which are counted.

use super::Finished;
use crate::observe::locked;
use http::Method;
use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};
use tokio::sync::mpsc;

/// Requests that wait for one listener.
const QUEUE: usize = 1024;
/// Listeners at once.
const LISTENERS: usize = 16;

/// Which requests; what is absent fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TapFilter {
    /// Of the calling or of the called pod, or of the service.
    pub(crate) namespace: Option<String>,
    /// `name`, `name.namespace` or the whole host name.
    pub(crate) service: Option<String>,
    /// The path begins with it.
    pub(crate) path: Option<String>,
    /// Exactly.
    pub(crate) method: Option<Method>,
    /// The least and the largest status; 0 is none.
    pub(crate) status: Option<(u16, u16)>,
}

impl TapFilter {
    pub(crate) fn fits(&self, request: &Finished) -> bool {
        let service = request.service.as_ref().map(|tally| &tally.name);
        self.status.is_none_or(|(least, most)| (least..=most).contains(&request.status))
            && self.method.as_ref().is_none_or(|method| *method == request.details.method)
            && self.path.as_ref().is_none_or(|path| request.details.uri.path().starts_with(path))
            && self.service.as_ref().is_none_or(|wanted| service.is_some_and(|service| service.is(wanted)))
            && self.namespace.as_ref().is_none_or(|wanted| {
                let pods = [Some(&request.pod), request.peer.as_ref()];
                pods.into_iter().flatten().any(|pod| *pod.namespace == **wanted)
                    || service.is_some_and(|service| *service.namespace == **wanted)
            })
    }
}

/// All listeners.
#[derive(Debug, Default)]
pub(crate) struct Taps(Arc<List>);

#[derive(Debug, Default)]
struct List {
    /// How many there are, so that workers need no lock to see that there is none.
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Listener>>>,
}

#[derive(Debug)]
struct Listener {
    filter: TapFilter,
    queue: mpsc::Sender<Arc<Finished>>,
    missed: AtomicU64,
}

/// What a listener holds; it ends the listening when it is dropped.
#[derive(Debug)]
pub(crate) struct Tapped {
    pub(crate) requests: mpsc::Receiver<Arc<Finished>>,
    listener: Arc<Listener>,
    list: Weak<List>,
}

impl Taps {
    pub(crate) fn any(&self) -> bool {
        self.0.count.load(Relaxed) > 0
    }

    pub(crate) fn listen(&self, filter: TapFilter) -> Option<Tapped> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let listener = Arc::new(Listener { filter, queue, missed: AtomicU64::new(0) });
        let mut all = locked(&self.0.all);
        if all.len() >= LISTENERS {
            return None;
        }
        all.push(listener.clone());
        self.0.count.store(all.len(), Relaxed);
        drop(all);
        Some(Tapped { requests, listener, list: Arc::downgrade(&self.0) })
    }

    pub(crate) fn tell(&self, request: &Arc<Finished>) {
        if !self.any() {
            return;
        }
        for listener in locked(&self.0.all).iter().filter(|listener| listener.filter.fits(request)) {
            if listener.queue.try_send(request.clone()).is_err() {
                listener.missed.fetch_add(1, Relaxed);
            }
        }
    }
}

impl Tapped {
    /// Requests that fitted and did not fit into the queue, since the last time.
    pub(crate) fn missed(&self) -> u64 {
        self.listener.missed.swap(0, Relaxed)
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let Some(list) = self.list.upgrade() else { return };
        let mut all = locked(&list.all);
        all.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        list.count.store(all.len(), Relaxed);
    }
}
