//! What the node publishes: the snapshot the data path loads, and the problems that people read. One writer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    control::{captured::CapturedPods, reading::Reading},
    snapshot::{
        LocalPod, Problem, Snapshot,
        build::{Context, build, update},
        captured,
    },
};

/// Where readers find the newest of everything.
#[derive(Clone, Default)]
pub struct Published {
    /// Loaded once per connection.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells of each snapshot, after it can be loaded.
    pub generation: watch::Sender<u64>,
    /// What the snapshot was built from.
    pub reading: Arc<ArcSwap<Reading>>,
    /// Of the objects, of this node's pods, of the kernel; sorted.
    pub problems: Arc<ArcSwap<Vec<Problem>>>,
    /// The pods that this node captures, for whoever tells other nodes.
    pub captured: watch::Sender<Arc<CapturedPods>>,
    /// The first complete snapshot is published and its pods are enrolled.
    pub ready: Arc<AtomicBool>,
    /// A signal to stop has come.
    pub stopping: Arc<AtomicBool>,
}

impl Published {
    /// Why the node does not serve; none when it does.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.stopping.load(Ordering::Acquire) {
            return Some("the agent is stopping".to_owned());
        }
        let enrolling = || "the pods of the first snapshot are being enrolled".to_owned();
        (!self.ready.load(Ordering::Acquire)).then(enrolling)
    }

    /// The node serves no more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

/// The one writer.
pub struct Publisher {
    published: Published,
    context: Context,
    /// Problems that the last whole build found.
    of_build: Vec<Problem>,
    /// Problems of the objects, kept until the next reading.
    of_objects: Vec<Problem>,
    /// What the annotation of captured pods says.
    captured_value: Arc<str>,
}

impl Publisher {
    /// Writes to `published`; `context` is what a snapshot is built with beside the objects, `started` when the agent started,
    /// seconds since 1970.
    #[must_use]
    pub fn new(published: Published, context: Context, started: i64) -> Self {
        let captured_value = captured::value(&context.node, started);
        Self { published, context, of_build: Vec::new(), of_objects: Vec::new(), captured_value }
    }

    /// Builds and publishes a snapshot.
    pub fn publish(&mut self, reading: &Arc<Reading>) -> Arc<Snapshot> {
        let previous = self.published.snapshot.load_full();
        self.context.generation = previous.generation + 1;
        let before = self.published.reading.load_full();
        let snapshot = match update(&before.inputs, &reading.inputs, &self.context, &previous) {
            Some(snapshot) => snapshot,
            None => {
                let (snapshot, problems) = build(&reading.inputs, &self.context, Some(&previous));
                self.of_build = problems;
                snapshot
            }
        };
        let snapshot = Arc::new(snapshot);
        self.published.snapshot.store(Arc::clone(&snapshot));
        self.published.reading.store(Arc::clone(reading));
        self.published.generation.send_replace(snapshot.generation);
        self.of_objects = reading.problems.iter().chain(&self.of_build).cloned().collect();
        tracing::info!(
            generation = snapshot.generation,
            workloads = snapshot.workloads.len(),
            services = snapshot.services.len(),
            pods = snapshot.local_pods.len(),
            "snapshot"
        );
        snapshot
    }

    /// Says what an incomplete reading waits for; the snapshot stays.
    pub fn wait(&mut self, reading: &Reading) {
        self.of_objects.clone_from(&reading.problems);
        self.publish_problems(Vec::new());
    }

    /// Publishes the problems of the objects and `of_node`, and says the new ones in the log.
    pub fn publish_problems(&self, of_node: Vec<Problem>) {
        let mut all = self.of_objects.clone();
        all.extend(of_node);
        all.sort();
        all.dedup();
        let before = self.published.problems.load();
        for problem in all.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!(%problem, "problem");
        }
        self.published.problems.store(Arc::new(all));
    }

    /// Publishes which pods are captured, where that changed.
    pub fn publish_captured<'pods>(&self, pods: impl Iterator<Item = &'pods LocalPod>) {
        let uids = pods.map(|pod| pod.workload.uid.clone());
        let now = CapturedPods { value: Arc::clone(&self.captured_value), pods: uids.collect() };
        self.published.captured.send_if_modified(|told| {
            let is_news = **told != now;
            if is_news {
                *told = Arc::new(now);
            }
            is_news
        });
    }

    /// The node serves from now on.
    pub fn set_ready(&self) {
        if !self.published.ready.swap(true, Ordering::AcqRel) {
            tracing::info!("ready");
        }
    }
}
