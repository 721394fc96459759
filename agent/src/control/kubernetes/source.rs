//! The task that puts what the watches say together, hands it over at a pace that the size of the cluster allows, and keeps it on disk.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch as channel},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};

use super::{
    ORIGIN,
    asked::Asked,
    connect::{self, ConnectError, Connection},
    fetch::{Answer, Fetcher},
    installed,
    kinds::{self, KINDS},
    saved::{self, Saved},
    store::{Change, Name, Store},
    stream::Listener,
    watch::Watch,
};
use crate::{
    control::{
        document::{Kind, Object},
        reading::Reading,
    },
    snapshot::{PodKey, Problem},
};

/// Changes on their way from the watches; more of them make the watches wait.
const WAITING: usize = 512;
/// Changes that come together are handed over together.
const QUIET: Duration = Duration::from_millis(10);
/// Between two readings of a small cluster, and what each object adds: a reading is built whole.
const PACE: Duration = Duration::from_millis(50);
const PACE_PER_OBJECT: Duration = Duration::from_micros(40);
const SLOWEST_PACE: Duration = Duration::from_secs(1);
/// New endpoints of services in use are looked at between these times after a slice changed.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// What was kept on disk is older than what the API server has, so a server that answers gets this long to say everything.
const FALL_BACK: Duration = Duration::from_secs(2);

/// What the source needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// A kubeconfig; the pod's own service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Whose pods are watched.
    pub node: Arc<str>,
    /// Folder in which the last inputs are kept.
    pub state: PathBuf,
}

/// The source that follows an API server.
pub struct KubernetesSource {
    url: String,
    store: Store,
    asked: Asked,
    fetcher: Fetcher,
    /// Pods of other nodes were denied, with the server's words, and none came since.
    denied: Option<String>,
    /// Services in use whose endpoints changed, and when their pods are to be fetched.
    stale: BTreeSet<Name>,
    stale_due: Option<Instant>,
    /// When an earlier agent kept what is in force, until the API server has said everything.
    kept_at: Option<String>,
    /// From when that is handed over where the API server has not said everything by then; none once it is time.
    fall_back: Option<Instant>,
    sender: channel::Sender<Arc<Reading>>,
    /// What goes to disk.
    keep: channel::Sender<Arc<Reading>>,
}

impl KubernetesSource {
    /// Follows the API server from now on. The receiver holds a reading that is not complete at first; one that was kept on disk
    /// follows where the API server does not answer. The sender asks for a pod of another node, which is in a later reading. Ends when every receiver is dropped. Call it within a
    /// tokio runtime.
    ///
    /// # Errors
    /// There is no usable configuration. A server that does not answer is a problem in a [`Reading`].
    pub async fn start(
        options: &Options,
    ) -> Result<(channel::Receiver<Arc<Reading>>, mpsc::Sender<PodKey>), ConnectError> {
        let Connection { client, url } = connect::connect(options.kubeconfig.as_deref()).await?;
        let path = saved::path(&options.state);
        let from = path.clone();
        let saved = spawn_blocking(move || saved::read(&from)).await.unwrap_or_default();
        let kept_at = saved.as_ref().map(|saved| saved.at.clone());
        let (store, asked) = taken_over(saved, &options.node);
        let (sender, receiver) = channel::channel(Arc::default());
        let (keep, kept) = channel::channel(Arc::default());
        tokio::spawn(saved::keep(path, kept));
        let (answers, from_server) = mpsc::channel(WAITING);
        let source = Self {
            url,
            store,
            asked,
            fetcher: Fetcher::new(client.clone(), answers),
            denied: None,
            stale: BTreeSet::new(),
            stale_due: None,
            fall_back: kept_at.is_some().then(|| Instant::now() + FALL_BACK),
            kept_at,
            sender,
            keep,
        };
        let (changes, from_watches) = mpsc::channel(WAITING);
        let (asker, from_node) = mpsc::channel(WAITING);
        let (names, installed) = channel::channel(installed::Names::new());
        tokio::spawn(installed::follow(client.clone(), names));
        for kind in KINDS {
            // Of pods only this node's: all of them on every node is what no API server could bear.
            let fields = (kind == Kind::Pod).then(|| format!("spec.nodeName={}", options.node));
            let listener = Listener { kind, changes: changes.clone() };
            let (client, installed) = (client.clone(), installed.clone());
            tokio::spawn(Watch { client, listener, fields, installed }.run());
        }
        tokio::spawn(source.follow(from_watches, from_node, from_server));
        Ok((receiver, asker))
    }

    async fn follow(
        mut self,
        mut changes: mpsc::Receiver<(Kind, Change)>,
        mut asked: mpsc::Receiver<PodKey>,
        mut answers: mpsc::Receiver<Answer>,
    ) {
        let mut last = Instant::now();
        // When the next reading is due; none while nothing changed.
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let Some((kind, change)) = change else { return };
                    if self.take(kind, change) {
                        let next = (last + self.pace()).max(Instant::now() + QUIET);
                        due.get_or_insert(next);
                    }
                }
                () = at(due) => {
                    (due, last) = (None, Instant::now());
                    self.hand_over();
                }
                Some(pod) = asked.recv() => {
                    let fetches = self.asked.want(&pod, &self.store, Instant::now().into_std());
                    fetches.into_iter().for_each(|fetch| self.fetcher.send(fetch));
                }
                Some(answer) = answers.recv() => {
                    // A connection waits for it: at once.
                    if self.take_answer(answer) {
                        (due, last) = (None, Instant::now());
                        self.hand_over();
                    }
                }
                () = at(self.fall_back) => {
                    self.fall_back = None;
                    self.hand_over();
                }
                () = at(self.stale_due) => self.prefetch(),
                () = self.sender.closed() => return,
            }
        }
    }

    /// Takes a change in; whether the next reading differs by it.
    fn take(&mut self, kind: Kind, change: Change) -> bool {
        if kind != Kind::EndpointSlice {
            return self.store.apply(kind, change);
        }
        let name = match &change {
            Change::Applied(name, _) | Change::Gone(name) => Some(name.clone()),
            _ => None,
        };
        let listed = matches!(change, Change::End);
        let before = name.as_ref().and_then(|name| self.store.slice(name));
        let differs = self.store.apply(kind, change);
        if listed {
            self.asked.forget_all_but(&self.store, Instant::now().into_std());
            self.stale.extend(self.asked.in_use().cloned());
        }
        if let Some(before) = before {
            self.asked.forget(&before, &self.store);
        }
        let now = name.and_then(|name| self.store.slice(&name));
        self.stale.extend(now.and_then(|slice| self.asked.concerns(&slice)));
        if !self.stale.is_empty() {
            // Not all nodes in the same moment.
            let pause = FIRST_LOOK + LAST_LOOK.saturating_sub(FIRST_LOOK).mul_f64(fastrand::f64());
            self.stale_due.get_or_insert(Instant::now() + pause);
        }
        differs
    }

    /// Takes what a fetch brought; whether the next reading differs by it.
    fn take_answer(&mut self, answer: Answer) -> bool {
        match answer {
            Answer::Pods(namespace, pods) => {
                let again = self.denied.take().is_some();
                self.asked.answer(&namespace, pods, &self.store) || again
            }
            // The first words count.
            Answer::Denied(_) if self.denied.is_some() => false,
            Answer::Denied(words) => {
                self.denied = Some(words);
                true
            }
        }
    }

    /// Fetches the new pods of services in use before anybody asks for them.
    fn prefetch(&mut self) {
        self.stale_due = None;
        let now = Instant::now().into_std();
        for service in std::mem::take(&mut self.stale) {
            let fetches = self.asked.prefetch(&service, &self.store, now);
            fetches.into_iter().for_each(|fetch| self.fetcher.send(fetch));
        }
    }

    fn pace(&self) -> Duration {
        let objects = u32::try_from(self.store.len()).unwrap_or(u32::MAX);
        (PACE + PACE_PER_OBJECT.saturating_mul(objects)).min(SLOWEST_PACE)
    }

    fn hand_over(&mut self) {
        let whole = self.store.is_complete();
        let mut reading = self.store.reading(&self.url, self.asked.pods());
        reading.problems.extend(self.denied.as_deref().map(unknown_pods));
        match &self.kept_at {
            _ if whole => self.kept_at = None,
            Some(_) if self.fall_back.is_some() && !self.store.is_stuck() => return,
            Some(at) => {
                reading.complete = true;
                reading.problems.push(self.not_whole(at));
            }
            None => {}
        }
        if **self.sender.borrow() == reading {
            return;
        }
        let reading = Arc::new(reading);
        if whole {
            self.keep.send_replace(Arc::clone(&reading));
        }
        self.sender.send_replace(reading);
    }

    fn not_whole(&self, at: &str) -> Problem {
        Problem {
            origin: ORIGIN.to_owned(),
            object: self.url.clone(),
            field: String::new(),
            reason: format!(
                "not everything was read from the API server yet; for what is missing the objects of {at} that were kept on disk are in force until then"
            ),
        }
    }
}

/// Who pods of other nodes are is not said.
fn unknown_pods(words: &str) -> Problem {
    Problem {
        origin: ORIGIN.to_owned(),
        object: kinds::qualified(Kind::Pod),
        field: String::new(),
        reason: format!(
            "the API server denies those of other nodes ({words}); allow the agent's service account `get` and `list` on `pods` in its ClusterRole. Connections to pods that are not known yet are refused until then"
        ),
    }
}

/// What was kept, in the places of what the API server will say: pods of other nodes are as if they had been asked for.
fn taken_over(saved: Option<Saved>, node: &str) -> (Store, Asked) {
    let (mut store, mut asked) = (Store::default(), Asked::default());
    for (key, object) in saved.into_iter().flat_map(|saved| saved.objects) {
        match object {
            Object::Pod(pod) if *pod.node != *node => asked.take_over(pod),
            object => store.keep(key.kind, (key.namespace, key.name), object),
        }
    }
    (store, asked)
}

/// Waits for a moment, or for ever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
