//! Makes the node follow the snapshot: enrols the pods that are wanted, releases those that are not any more.
//!
//! The order is what matters. Enrolling: the kernel first learns of the pod without listeners, so that a pod that fails
//! closed sends nothing in plaintext from then on; then rules, listeners and workers; then the kernel learns of the
//! listeners. Releasing: the kernel first, so that nothing new arrives, then workers and listeners; rules after the last connection.

mod reports;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use super::{
    appearances::Appearances,
    judging::{judgements, unjudged},
    kernel::Kernel,
    locate::Locator,
};
use crate::{
    bpf::{GroupEvent, HeldCounts, PodListeners, WantedPod},
    netns::{
        ListenerPorts, Namespace, NamespaceThreads, SocketOptions, TcpConnection, listen, plumbing::Plumbing,
        sockets,
    },
    observe::{Enrolments, monotonic_ns},
    snapshot::{LocalPod, NetnsSource, Problem, Snapshot},
    worker::{Command, WorkerHandle},
};

/// What enrolling needs.
pub struct Means {
    /// Threads that enter namespaces.
    pub threads: NamespaceThreads,
    /// Options of listeners.
    pub sockets: SocketOptions,
    /// Their ports.
    pub ports: ListenerPorts,
    /// Addresses of this node, whose probes always pass.
    pub node_addresses: Vec<IpAddr>,
    /// Where people read how pods came to be captured.
    pub enrolments: Enrolments,
}

/// The enrolled pods of this node, by uid.
pub struct Pods {
    means: Means,
    enrolled: HashMap<Arc<str>, Enrolled>,
    /// Pods that are no longer captured, until they have gone.
    unlabelled: Vec<Unlabelled>,
    locator: Locator,
    appearances: Appearances,
    /// What was counted of pods that are not captured, by cgroup.
    held: BTreeMap<u64, HeldCounts>,
    /// When connections from before were last looked at, agent time.
    looked_ns: u64,
}

/// A pod that is no longer captured and whose connections go on.
struct Unlabelled {
    namespace: Arc<Namespace>,
    /// Until the last of them has ended: without rules the answers of the application would not come back to us.
    plumbing: Option<Plumbing>,
    /// Shared with the workers that have some.
    held: Arc<()>,
}

struct Enrolled {
    pod: Arc<LocalPod>,
    namespace: Arc<Namespace>,
    /// What names it now: it may have been opened by the process of a container that was replaced since.
    named: PathBuf,
    /// When the process that it was found by started, nanoseconds since boot; of a pod that was waited for.
    started_ns: Option<u64>,
    /// When it was first seen captured, agent time.
    captured_ns: Option<u64>,
    /// From the appearance of the pod to its capture.
    window_ns: Option<u64>,
    listeners: Arc<PodListeners>,
    plumbing: Option<Plumbing>,
    /// Connections from before, as far as they live.
    before: Vec<TcpConnection>,
}

impl Pods {
    /// Nobody enrolled yet.
    #[must_use]
    pub fn new(means: Means, locator: Locator, appearances: Appearances) -> Self {
        let (enrolled, unlabelled) = (HashMap::new(), Vec::new());
        Self { means, enrolled, unlabelled, locator, appearances, held: BTreeMap::new(), looked_ns: 0 }
    }

    /// Follows `snapshot`. Whatever cannot be done is a problem, and is tried again at the next call.
    pub async fn follow(
        &mut self,
        snapshot: &Snapshot,
        kernel: &Kernel,
        workers: &[WorkerHandle],
    ) -> Vec<Problem> {
        let read_ns = monotonic_ns();
        self.locator.read(kernel.folder_made_ns(), read_ns);
        self.appearances.keep(self.locator.scan(), |uid| snapshot.bystanders.contains_key(uid));
        // Before anything that takes time: from now on a strict pod sends nothing, captured or not.
        let judged = judgements(snapshot, self.locator.scan(), read_ns);
        let (held, mut problems) = kernel.judge(&judged);
        problems.extend(unjudged(&judged, self.locator.scan(), &held));
        self.note_held(held);
        let left = self.take_left(snapshot);
        problems.extend(self.open_new(snapshot).await);
        problems.extend(kernel.apply(&self.wanted(), &self.means.node_addresses));
        for (enrolled, gone) in left {
            self.release(enrolled, gone, workers);
        }
        self.end_unlabelled(workers).await;
        let installed = self.install_new(workers, &mut problems).await;
        if installed {
            problems.extend(kernel.apply(&self.wanted(), &self.means.node_addresses));
        }
        self.note_captured();
        self.look_at_before().await;
        self.look_at_present(snapshot).await;
        self.publish();
        problems.extend(self.late(snapshot));
        problems.sort();
        problems.dedup();
        problems
    }

    /// A pod that was unlabelled first and went later leaves nothing either; one that stays is left without our rules after its last
    /// connection.
    async fn end_unlabelled(&mut self, workers: &[WorkerHandle]) {
        for pod in self.unlabelled.extract_if(.., |pod| !pod.namespace.is_current()) {
            tell_release(workers, &pod.namespace, None);
        }
        // It may have been captured again, once or more.
        let captured = self.enrolled.values().map(|enrolled| enrolled.namespace.cookie());
        let held = self.unlabelled.iter().filter(|pod| Arc::strong_count(&pod.held) > 1);
        let in_use: HashSet<u64> = captured.chain(held.map(|pod| pod.namespace.cookie())).collect();
        let free = |pod: &&mut Unlabelled| !in_use.contains(&pod.namespace.cookie());
        for pod in self.unlabelled.iter_mut().filter(free) {
            if let Some(plumbing) = pod.plumbing.take() {
                plumbing.remove(&self.means.threads).await;
            }
        }
    }

    /// The node's addresses changed.
    pub fn set_node_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.means.node_addresses = addresses;
    }

    /// Releases everything, for a clean stop; the kernel's side is undone by the caller.
    pub async fn release_all(&mut self, workers: &[WorkerHandle]) {
        for (_, enrolled) in std::mem::take(&mut self.enrolled) {
            self.release(enrolled, false, workers);
        }
        for plumbing in self.unlabelled.drain(..).filter_map(|pod| pod.plumbing) {
            plumbing.remove(&self.means.threads).await;
        }
    }

    /// Lets go of everything and undoes nothing: the next agent takes it over, and no connection may wait at a listener of ours.
    pub fn leave(&mut self) {
        self.enrolled.clear();
    }

    /// The pods that are captured, listeners and all.
    pub fn captured(&self) -> impl Iterator<Item = &LocalPod> {
        self.enrolled.values().filter(|enrolled| enrolled.plumbing.is_some()).map(|enrolled| &*enrolled.pod)
    }

    /// When to look again for pods that are being made; none where nothing is to be gained by it.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.appearances.next_look(monotonic_ns())
    }

    /// Whether something happened to pods, or one that was waited for has its namespace now: a cheap look before
    /// [`Pods::follow`].
    pub fn is_worth_following(&mut self, snapshot: &Snapshot, events: &[GroupEvent]) -> bool {
        if !events.is_empty() {
            let pods = self.appearances.note_all(events);
            self.locator.expect(&pods);
            return !pods.is_empty() || events.iter().any(GroupEvent::is_of_all_pods);
        }
        self.locator.rescan();
        self.appearances.waiting(0).any(|(uid, ..)| {
            snapshot.local_pods.get(uid).is_some_and(|pod| self.locator.find(&pod.netns).is_ok())
        })
    }

    /// Pods that are not wanted any more, or whose namespace is not what its path names now.
    fn take_left(&mut self, snapshot: &Snapshot) -> Vec<(Enrolled, bool)> {
        let locator = &self.locator;
        let fate = |enrolled: &mut Enrolled| {
            let (source, namespace) = (&enrolled.pod.netns, &enrolled.namespace);
            let still = locator.still_has(source, namespace, &mut enrolled.named);
            match snapshot.local_pods.get(&enrolled.pod.workload.uid) {
                Some(pod) if pod.netns == *source && still => None,
                Some(_) => Some(true),
                None => Some(!still || is_gone(snapshot, enrolled)),
            }
        };
        let leaving: Vec<(Arc<str>, bool)> = self
            .enrolled
            .iter_mut()
            .filter_map(|(uid, enrolled)| fate(enrolled).map(|gone| (Arc::clone(uid), gone)))
            .collect();
        leaving
            .into_iter()
            .filter_map(|(uid, gone)| self.enrolled.remove(&uid).map(|enrolled| (enrolled, gone)))
            .collect()
    }

    async fn open_new(&mut self, snapshot: &Snapshot) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (uid, pod) in &snapshot.local_pods {
            if let Some(enrolled) = self.enrolled.get_mut(uid) {
                enrolled.pod = Arc::clone(pod);
                continue;
            }
            let place = match self.locator.find(&pod.netns) {
                Ok(place) => place,
                Err(missing) => {
                    self.appearances.wait(uid, missing, monotonic_ns());
                    continue;
                }
            };
            match self.means.threads.open(place.path.clone()).await {
                Ok(namespace) => {
                    let enrolled = Enrolled {
                        pod: Arc::clone(pod),
                        namespace: Arc::new(namespace),
                        named: place.path,
                        started_ns: place.started_ns.filter(|_| self.appearances.found(uid)),
                        captured_ns: None,
                        window_ns: None,
                        listeners: Arc::new(PodListeners { v4: None, v6: None }),
                        plumbing: None,
                        before: Vec::new(),
                    };
                    self.enrolled.insert(Arc::clone(uid), enrolled);
                }
                Err(error) => problems.push(problem(pod, &error)),
            }
        }
        self.appearances.keep_waiting(|uid| snapshot.local_pods.contains_key(uid));
        problems
    }

    /// Rules, listeners and workers for pods that have none; whether there was any.
    async fn install_new(&mut self, workers: &[WorkerHandle], problems: &mut Vec<Problem>) -> bool {
        let mut any = false;
        for (uid, enrolled) in &mut self.enrolled {
            if enrolled.plumbing.is_some() {
                continue;
            }
            match install(&self.means, uid, enrolled, workers).await {
                Ok(()) => any = true,
                Err(reason) => problems.push(reason),
            }
        }
        any
    }

    fn release(&mut self, enrolled: Enrolled, gone: bool, workers: &[WorkerHandle]) {
        let held = (!gone).then(Arc::default);
        tell_release(workers, &enrolled.namespace, held.as_ref());
        if let Some(held) = held {
            let (namespace, plumbing) = (enrolled.namespace, enrolled.plumbing);
            self.unlabelled.push(Unlabelled { namespace, plumbing, held });
        }
        tracing::info!(pod = %enrolled.pod.workload.uid, gone, "released");
    }

    fn wanted(&self) -> Vec<WantedPod> {
        let wanted = |enrolled: &Enrolled| WantedPod {
            cookie: enrolled.namespace.cookie(),
            netns: enrolled.namespace.descriptor(),
            uid: Arc::clone(&enrolled.pod.workload.uid),
            fail_mode: enrolled.pod.fail_mode,
            exclude_outbound: enrolled.pod.exclude_outbound_ports.clone(),
            exclude_inbound: enrolled.pod.exclude_inbound_ports.clone(),
            listeners: Arc::clone(&enrolled.listeners),
        };
        self.enrolled.values().map(wanted).collect()
    }
}

/// `held` as in [`Command::Release`].
fn tell_release(workers: &[WorkerHandle], namespace: &Namespace, held: Option<&Arc<()>>) {
    for worker in workers {
        worker.tell(Command::Release { cookie: namespace.cookie(), held: held.cloned() });
    }
}

/// A pod that is only unlabelled keeps its connections; one that left does not.
fn is_gone(snapshot: &Snapshot, enrolled: &Enrolled) -> bool {
    let still =
        |address| snapshot.workloads.get(address).is_some_and(|found| found.uid == enrolled.pod.workload.uid);
    !enrolled.pod.workload.addresses.iter().any(still)
}

async fn install(
    means: &Means,
    uid: &Arc<str>,
    enrolled: &mut Enrolled,
    workers: &[WorkerHandle],
) -> Result<(), Problem> {
    let namespace = &enrolled.namespace;
    let plumbing = Plumbing::install(&means.threads, namespace, means.sockets.delivery_mark())
        .await
        .map_err(|error| problem(&enrolled.pod, &error))?;
    let listening = listen(&means.threads, namespace, means.ports, workers.len(), &means.sockets).await;
    let (per_worker, kernel) = match listening {
        Ok(listeners) => listeners,
        Err(error) => {
            plumbing.remove(&means.threads).await;
            return Err(problem(&enrolled.pod, &error));
        }
    };
    for (worker, listeners) in workers.iter().zip(per_worker) {
        let (uid, namespace) = (Arc::clone(uid), Arc::clone(namespace));
        worker.tell(Command::Enrol { uid, namespace, listeners });
    }
    // The kernel does not steer to the listeners yet: what there is goes past the agent.
    enrolled.before = sockets::uncaptured(&means.threads, namespace, &means.sockets).await;
    enrolled.listeners = Arc::new(PodListeners { v4: kernel.v4, v6: kernel.v6 });
    enrolled.plumbing = Some(plumbing);
    tracing::info!(pod = %uid, cookie = namespace.cookie(), "enrolled");
    Ok(())
}

fn problem(pod: &LocalPod, error: &dyn std::error::Error) -> Problem {
    Problem {
        origin: "node".to_owned(),
        object: format!("Pod/{}/{}", pod.workload.namespace, pod.workload.name),
        field: match pod.netns {
            NetnsSource::Path(_) => "metadata.annotations[posthaste.dev/netns]".to_owned(),
            NetnsSource::Cgroup(_) => "metadata.uid".to_owned(),
        },
        reason: error.to_string(),
    }
}
