//! A pod as one worker holds it: its namespace, and every task that works for it, so that all can be ended when it leaves.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use slab::Slab;
use tokio::task::AbortHandle;

use crate::netns::Namespace;

/// An enrolled pod, on one worker.
pub struct PodHere {
    /// Key in the snapshot.
    pub uid: Arc<str>,
    /// Where its sockets live.
    pub namespace: Arc<Namespace>,
    listeners: RefCell<Vec<AbortHandle>>,
    tasks: RefCell<Slab<AbortHandle>>,
}

impl PodHere {
    pub(super) fn new(uid: Arc<str>, namespace: Arc<Namespace>) -> Rc<Self> {
        Rc::new(Self { uid, namespace, listeners: RefCell::default(), tasks: RefCell::default() })
    }

    /// Runs an accept loop until [`PodHere::close`].
    pub(super) fn listen(&self, accepting: impl Future<Output = ()> + 'static) {
        self.listeners.borrow_mut().push(tokio::task::spawn_local(accepting).abort_handle());
    }

    /// Runs a connection's task until it ends or the pod is gone.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let key = self.tasks.borrow().vacant_key();
        let entry = Entry { pod: Rc::clone(self), key };
        let handle = tokio::task::spawn_local(async move {
            let _entry = entry;
            task.await;
        });
        self.tasks.borrow_mut().insert(handle.abort_handle());
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
        let handles: Vec<AbortHandle> = self.tasks.borrow().iter().map(|(_, handle)| handle.clone()).collect();
        for handle in handles {
            handle.abort();
        }
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
