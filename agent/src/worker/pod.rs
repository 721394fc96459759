//! A pod as one worker holds it: its namespace, and every task that works for it, so that all can be ended when it leaves.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use slab::Slab;
use tokio::{sync::watch, task::AbortHandle};

use super::InheritedAttempts;
use crate::{
    netns::Namespace,
    snapshot::{LocalPod, Workload},
    tunnel::{RetryMark, headers::Baggage},
};

/// An enrolled pod, on one worker.
pub struct PodHere {
    /// Key in the snapshot.
    pub uid: Arc<str>,
    /// Where its sockets live.
    pub namespace: Arc<Namespace>,
    listeners: RefCell<Vec<AbortHandle>>,
    tasks: RefCell<Slab<AbortHandle>>,
    /// True once the pod is no longer captured.
    leaving: watch::Sender<bool>,
    /// What hops before have tried, of all pods.
    inherited: Arc<InheritedAttempts>,
    /// The header and the workload it was written from; a workload changes seldom.
    baggage: RefCell<Option<(Arc<Workload>, Arc<str>)>>,
}

impl PodHere {
    pub(super) fn new(
        uid: Arc<str>,
        namespace: Arc<Namespace>,
        inherited: Arc<InheritedAttempts>,
    ) -> Rc<Self> {
        Rc::new(Self {
            uid,
            namespace,
            listeners: RefCell::default(),
            tasks: RefCell::default(),
            leaving: watch::Sender::new(false),
            inherited,
            baggage: RefCell::default(),
        })
    }

    /// A stream for this pod carries a request that was tried before.
    pub fn note_retry(&self, mark: &RetryMark, now_ns: u64) {
        self.inherited.note(self.namespace.cookie(), mark, now_ns);
    }

    /// How many attempts hops before have made for the request with this key (its trace id or request id), which this
    /// pod's application now sends on; 0 for most.
    #[must_use]
    pub fn inherited_attempts(&self, key: &str, now_ns: u64) -> u32 {
        self.inherited.of(self.namespace.cookie(), key, now_ns)
    }

    /// Runs an accept loop until [`PodHere::close`].
    pub(super) fn listen(&self, accepting: impl Future<Output = ()> + 'static) {
        self.listeners.borrow_mut().push(tokio::task::spawn_local(accepting).abort_handle());
    }

    /// Runs a connection's task until it ends or the pod is gone.
    /// The task holds the [`Entry`] that it is given to its end. (A future around it would be twice its size.)
    pub fn spawn<F: Future<Output = ()> + 'static>(self: &Rc<Self>, task: impl FnOnce(Entry) -> F) {
        let key = self.tasks.borrow().vacant_key();
        let entry = Entry { pod: Rc::clone(self), key };
        let handle = tokio::task::spawn_local(task(entry));
        self.tasks.borrow_mut().insert(handle.abort_handle());
    }

    /// The `baggage` header of what this pod sends and answers.
    #[must_use]
    pub fn baggage(&self, here: &LocalPod) -> Arc<str> {
        let mut kept = self.baggage.borrow_mut();
        match &*kept {
            Some((workload, text)) if Arc::ptr_eq(workload, &here.workload) => Arc::clone(text),
            _ => {
                let text: Arc<str> = write_baggage(&here.workload).into();
                *kept = Some((Arc::clone(&here.workload), Arc::clone(&text)));
                text
            }
        }
    }

    /// Connections and tunnels at work.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// Resolves when the pod is no longer captured: its tunnels take no more streams, and end after the last.
    pub fn leaving(&self) -> impl Future<Output = ()> + 'static {
        let mut leaving = self.leaving.subscribe();
        async move {
            if leaving.wait_for(|leaving| *leaving).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Accepts no more; what runs goes on.
    pub(super) fn close(&self) {
        self.leaving.send_replace(true);
        for listener in self.listeners.take() {
            listener.abort();
        }
    }

    /// Ends everything that runs: the pod is gone, and a socket of ours would keep its namespace alive.
    pub(super) fn abort(&self) {
        self.close();
        let handles: Vec<AbortHandle> =
            self.tasks.borrow().iter().map(|(_, handle)| handle.clone()).collect();
        for handle in handles {
            handle.abort();
        }
    }
}

fn write_baggage(workload: &Workload) -> String {
    let text = |part: &str| part.to_owned();
    let labels = &workload.labels;
    Baggage {
        cluster: text(&labels.cluster),
        namespace: text(&workload.namespace),
        workload_kind: text("deployment"),
        workload: text(&labels.workload),
        service: text(&labels.canonical_service),
        version: text(&labels.canonical_revision),
        ..Baggage::default()
    }
    .to_string()
}

/// A task's place in the list of its pod; dropped with the task, however it ends.
pub struct Entry {
    pod: Rc<PodHere>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = self.pod.tasks.borrow_mut().try_remove(self.key);
    }
}
