//! Keeps the annotation of [`captured`] right on the pods of this node. What the watch says of them is compared with what is so, each
//! time one of the two changes, so that nothing that failed or was lost stays so.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::DynamicObject,
};
use serde_json::json;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{ORIGIN, kinds};
use crate::{
    control::{
        captured::{self, CapturedPods, Change},
        document::Kind,
        reading::Reading,
    },
    snapshot::{Problem, captured::CAPTURED_ANNOTATION},
};

/// What was written is in the watch within this; it counts more than what the watch says meanwhile.
const SETTLED: Duration = Duration::from_secs(5);
/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(3);
/// For one write.
const LIMIT: Duration = Duration::from_secs(5);
/// For taking everything back.
const TAKE_BACK: Duration = Duration::from_secs(3);

/// The task that writes.
pub struct Annotator {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    problem: watch::Receiver<Option<Problem>>,
}

struct Writer {
    client: Client,
    node: Arc<str>,
    readings: watch::Receiver<Arc<Reading>>,
    captured: watch::Receiver<Arc<CapturedPods>>,
    problem: watch::Sender<Option<Problem>>,
    /// What was written lately, by uid.
    written: HashMap<Arc<str>, (Option<Arc<str>>, Instant)>,
}

impl Annotator {
    /// Starts it, on the calling runtime. It writes nothing before `captured` has a value.
    #[must_use]
    pub fn start(
        client: Client,
        node: Arc<str>,
        readings: watch::Receiver<Arc<Reading>>,
        captured: watch::Receiver<Arc<CapturedPods>>,
    ) -> Self {
        let (told, problem) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let writer = Writer { client, node, readings, captured, problem: told, written: HashMap::new() };
        Self { task: tokio::spawn(writer.run(stopped)), stop, problem }
    }

    /// Why pods do not say that they are captured.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.problem.borrow().clone()
    }

    /// No pod is captured any more: takes all annotations away, as far as that can be done soon.
    pub async fn take_back(self) {
        let _has_ended = self.stop.send(());
        if timeout(TAKE_BACK, self.task).await.is_err() {
            tracing::warn!(
                "pods of this node still say that they are captured: the API server does not answer"
            );
        }
    }
}

impl Writer {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let now = Arc::clone(&self.captured.borrow_and_update());
            let failed = self.write_all(&now).await;
            let again = failed.then(|| Instant::now() + AGAIN);
            tokio::select! {
                asked = &mut stopped => {
                    if asked.is_ok() {
                        let none = CapturedPods { value: now.value.clone(), ..CapturedPods::default() };
                        self.write_all(&none).await;
                    }
                    return;
                }
                changed = self.readings.changed() => if changed.is_err() { return },
                changed = self.captured.changed() => if changed.is_err() { return },
                () = at(again) => {}
            }
        }
    }

    /// Whether something is still to be written.
    async fn write_all(&mut self, now: &CapturedPods) -> bool {
        if now.value.is_empty() {
            return false;
        }
        let reading = Arc::clone(&self.readings.borrow_and_update());
        let pods = reading.inputs.pods.iter().map(|pod| &**pod);
        self.written.retain(|_, (_, at)| at.elapsed() < SETTLED);
        let written = self.written.iter().map(|(uid, (value, _))| (uid.clone(), value.clone())).collect();
        let mut problem = None;
        for change in captured::changes(pods, &self.node, &written, now) {
            match timeout(LIMIT, write(&self.client, &change)).await {
                Ok(Ok(())) => {
                    self.written.insert(change.uid.clone(), (change.value.clone(), Instant::now()));
                }
                Ok(Err(error)) => problem = Some(trouble(&change, &error.to_string())),
                Err(_) => problem = Some(trouble(&change, "the API server did not answer in time")),
            }
        }
        let failed = problem.is_some();
        self.problem.send_if_modified(|told| {
            let is_news = *told != problem;
            *told = problem;
            is_news
        });
        failed
    }
}

async fn write(client: &Client, change: &Change) -> Result<(), kube::Error> {
    let resource = kinds::resource(Kind::Pod, Kind::Pod.version());
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), &change.namespace, &resource);
    let patch = json!({"metadata": {
        "uid": &*change.uid, "annotations": {CAPTURED_ANNOTATION: change.value.as_deref()},
    }});
    // The status subresource reaches metadata and never the spec.
    match pods.patch_status(&change.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        // Gone, or another pod of this name: the watch will say so.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => Ok(()),
        answer => answer.map(drop),
    }
}

fn trouble(change: &Change, error: &str) -> Problem {
    Problem {
        origin: ORIGIN.to_owned(),
        object: format!("Pod/{}/{}", change.namespace, change.name),
        field: format!("metadata.annotations[{CAPTURED_ANNOTATION}]"),
        reason: format!(
            "cannot be written, so other nodes do not learn what is captured: {error}; the agent needs the right to patch `pods/status`"
        ),
    }
}

/// Waits for a moment, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
