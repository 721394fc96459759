//! A pod as one worker holds it: its namespace, and every task that works for it, so that all can be ended when it leaves.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::{sync::watch, task::AbortHandle};

use super::{Admissions, InheritedAttempts, tasks::Tasks};
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
    tasks: Rc<Tasks>,
    /// Runs the tasks.
    driver: AbortHandle,
    /// True once the pod is no longer captured.
    leaving: watch::Sender<bool>,
    /// Who was let in.
    pub admissions: Rc<Admissions>,
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
        let tasks = Rc::new(Tasks::default());
        let driver = tokio::task::spawn_local(Rc::clone(&tasks).drive()).abort_handle();
        Rc::new(Self {
            uid,
            namespace,
            listeners: RefCell::default(),
            tasks,
            driver,
            leaving: watch::Sender::new(false),
            admissions: Rc::default(),
            inherited,
            baggage: RefCell::default(),
        })
    }

    /// A stream for this pod carries a request that was tried before.
    pub fn note_retry(&self, mark: &RetryMark, now_ns: u64) {
        // One mark names the request by all that an application may pass on: its trace, its id.
        for key in mark.key.split(';') {
            let mark = RetryMark { attempt: mark.attempt, key: key.into() };
            self.inherited.note(self.namespace.cookie(), &mark, now_ns);
        }
    }

    /// How many attempts hops before have made for the request with this key (its trace id or request id), which this
    /// pod's application now sends on; 0 for most.
    #[must_use]
    pub fn inherited_attempts(&self, key: &str, now_ns: u64) -> u32 {
        self.inherited.of(self.namespace.cookie(), key, now_ns)
    }

    /// Runs an accept loop, which ends with [`PodHere::leaving`].
    pub(super) fn listen(&self, accepting: impl Future<Output = ()> + 'static) {
        self.listeners.borrow_mut().push(tokio::task::spawn_local(accepting).abort_handle());
    }

    /// Runs a connection's task until it ends or the pod is gone, in turn with those of other pods.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.add(task);
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
        self.tasks.running()
    }

    /// Resolves when the pod is no longer captured: its tunnels take no more streams, and end after the last.
    pub fn leaving(&self) -> impl Future<Output = ()> + 'static + use<> {
        let mut leaving = self.leaving.subscribe();
        async move {
            if leaving.wait_for(|leaving| *leaving).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether it is no longer captured.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Accepts no more than what waits; what runs goes on, and each task looks whether [`PodHere::is_leaving`] concerns it.
    pub(super) fn close(&self) {
        if !self.leaving.send_replace(true) {
            self.tasks.wake_all();
        }
    }

    /// Ends everything that runs: the pod is gone, and a socket of ours would keep its namespace alive.
    pub(super) fn abort(&self) {
        self.close();
        for listener in self.listeners.take() {
            listener.abort();
        }
        self.tasks.abort();
    }
}

impl Drop for PodHere {
    fn drop(&mut self) {
        self.driver.abort();
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
