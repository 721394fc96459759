//! A pod as one worker holds it: its namespace, and every task that works for it, so that all can be ended when it leaves.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use slab::Slab;
use tokio::task::AbortHandle;

use crate::{
    netns::Namespace,
    snapshot::{LocalPod, Workload},
    tunnel::headers::Baggage,
};

/// An enrolled pod, on one worker.
pub struct PodHere {
    /// Key in the snapshot.
    pub uid: Arc<str>,
    /// Where its sockets live.
    pub namespace: Arc<Namespace>,
    listeners: RefCell<Vec<AbortHandle>>,
    tasks: RefCell<Slab<AbortHandle>>,
    /// The header and the workload it was written from; a workload changes seldom.
    baggage: RefCell<Option<(Arc<Workload>, Arc<str>)>>,
}

impl PodHere {
    pub(super) fn new(uid: Arc<str>, namespace: Arc<Namespace>) -> Rc<Self> {
        Rc::new(Self {
            uid,
            namespace,
            listeners: RefCell::default(),
            tasks: RefCell::default(),
            baggage: RefCell::default(),
        })
    }

    /// Runs an accept loop until [`PodHere::close`].
    pub(super) fn listen(&self, accepting: impl Future<Output = ()> + 'static) {
        self.listeners.borrow_mut().push(tokio::task::spawn_local(accepting).abort_handle());
    }

    /// Runs a connection's task until it ends or the pod is gone.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let key = self.tasks.borrow().vacant_key();
        let tracked = Tracked { task: Box::pin(task), _entry: Entry { pod: Rc::clone(self), key } };
        let handle = tokio::task::spawn_local(tracked);
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

    /// Accepts no more; what runs goes on.
    pub(super) fn close(&self) {
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

/// A task and its entry, in that order: the task is dropped first. An `async` block would hold the task twice.
struct Tracked<F> {
    task: Pin<Box<F>>,
    _entry: Entry,
}

impl<F: Future<Output = ()>> Future for Tracked<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.task.as_mut().poll(context)
    }
}

/// Takes the task off the list when it ends, however it ends.
struct Entry {
    pod: Rc<PodHere>,
    key: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = self.pod.tasks.borrow_mut().try_remove(self.key);
    }
}
