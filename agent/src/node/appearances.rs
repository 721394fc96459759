//! When the pods of this node appeared, and when to look again for one that is being made. Pure.
//!
//! The kernel tells of the first process of a pod; that process then joins the pod's network namespace, of which nothing
//! tells. It takes the runtime some milliseconds, in which the agent looks again and again.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use agent_common::CgroupChange;

use super::locate::Missing;
use crate::{
    bpf::GroupEvent,
    cgroup::{Scan, path},
};

/// Between two looks at a pod whose runtime is on its way into it.
const SOON: Duration = Duration::from_millis(1);
/// The same after [`HASTE_NS`]: it may be a pod of the host's network.
const LATER: Duration = Duration::from_millis(20);
const HASTE_NS: u64 = 1_000_000_000;
/// After that the node's own tick is enough.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Between two looks where the kernel does not tell of control groups.
const BLIND: Duration = Duration::from_millis(100);

/// What is known of pods before they are captured.
#[derive(Debug)]
pub struct Appearances {
    /// The kernel tells of control groups.
    kernel_tells: bool,
    /// Pods that appeared before did not appear under this agent's eyes.
    since_ns: u64,
    /// First process of each pod, agent time, by kubelet's uid.
    seen: HashMap<String, u64>,
    /// Kubelet's uids of pods that were there and not wanted: whatever is told of them later, they did not appear then.
    unwanted: HashSet<String>,
    /// Pods that are wanted and not there yet: why, and since when, by uid.
    waiting: HashMap<Arc<str>, (Missing, u64)>,
}

impl Appearances {
    /// Of an agent that looks since `now_ns`.
    #[must_use]
    pub fn new(kernel_tells: bool, now_ns: u64) -> Self {
        let (seen, unwanted, waiting) = (HashMap::new(), HashSet::new(), HashMap::new());
        Self { kernel_tells, since_ns: now_ns, seen, unwanted, waiting }
    }

    /// What the kernel told; the pods that it is about.
    pub fn note_all(&mut self, events: &[GroupEvent]) -> BTreeSet<String> {
        let mut pods = BTreeSet::new();
        for event in events {
            for pod in path::parse(&event.path) {
                pods.insert(pod.uid.clone());
                if event.change == CgroupChange::Populated && event.at_ns >= self.since_ns {
                    self.note(pod.uid, event.at_ns);
                }
            }
        }
        pods
    }

    /// The kernel told of the first process of a cgroup of the pod; the earliest counts.
    fn note(&mut self, uid: String, at_ns: u64) {
        self.seen.entry(uid).or_insert(at_ns);
    }

    /// Forgets pods that are gone or of another tree, and takes note of those that are known not to be captured: when one of them
    /// is enrolled later, it did not appear then.
    pub fn keep(&mut self, scan: &Scan, is_bystander: impl Fn(&str) -> bool) {
        self.seen.retain(|uid, _| scan.pods.contains_key(uid));
        self.unwanted.retain(|uid| scan.pods.contains_key(uid));
        self.unwanted.extend(scan.pods.keys().filter(|uid| is_bystander(uid)).cloned());
    }

    /// The pod is wanted, and not there.
    pub fn wait(&mut self, uid: &Arc<str>, why: Missing, now_ns: u64) {
        self.waiting.entry(Arc::clone(uid)).or_insert((why, now_ns)).0 = why;
    }

    /// Forgets pods that are not waited for any more.
    pub fn keep_waiting(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.waiting.retain(|uid, _| is_wanted(uid));
    }

    /// Why a pod is waited for, and for how long already, nanoseconds.
    pub fn waiting(&self, now_ns: u64) -> impl Iterator<Item = (&Arc<str>, Missing, u64)> {
        self.waiting.iter().map(move |(uid, (why, since))| (uid, *why, now_ns.saturating_sub(*since)))
    }

    /// The pod is there; whether it was waited for.
    pub fn found(&mut self, uid: &str) -> bool {
        self.waiting.remove(uid).is_some()
    }

    /// The pod is captured since `captured_ns`: nanoseconds since its first process appeared. None for a pod that was there before this agent,
    /// or was known and not wanted. Where the kernel does not tell, `started_ns` does, of a process that was waited for.
    pub fn captured(&mut self, of_kubelet: &str, started_ns: Option<u64>, captured_ns: u64) -> Option<u64> {
        let told = self.seen.remove(of_kubelet).filter(|_| !self.unwanted.contains(of_kubelet));
        let started = started_ns.filter(|at_ns| !self.kernel_tells && *at_ns > self.since_ns);
        told.or(started).and_then(|at_ns| captured_ns.checked_sub(at_ns))
    }

    /// When to look again; none where the kernel will tell or the node's tick is enough.
    #[must_use]
    pub fn next_look(&self, now_ns: u64) -> Option<Duration> {
        self.waiting(now_ns).filter_map(|(_, why, age_ns)| self.pause(why, age_ns)).min()
    }

    fn pause(&self, why: Missing, age_ns: u64) -> Option<Duration> {
        match why {
            Missing::OnlyNodes if age_ns < HASTE_NS => Some(SOON),
            Missing::OnlyNodes if age_ns < PATIENCE_NS => Some(LATER),
            Missing::NoCgroup | Missing::NoProcess if !self.kernel_tells => Some(BLIND),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::path::PathBuf;

    use super::*;
    use crate::cgroup::PodCgroup;

    const SECOND: u64 = 1_000_000_000;

    fn uid(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn looks_as_often_as_it_helps() {
        let table = [
            (true, Missing::NoCgroup, 0, None),
            (true, Missing::NoProcess, 0, None),
            (true, Missing::OnlyNodes, 0, Some(SOON)),
            (true, Missing::OnlyNodes, SECOND, Some(LATER)),
            (true, Missing::OnlyNodes, 10 * SECOND, None),
            (true, Missing::Hidden, 0, None),
            (false, Missing::NoCgroup, 99 * SECOND, Some(BLIND)),
            (false, Missing::NoProcess, 0, Some(BLIND)),
            (false, Missing::OnlyNodes, 0, Some(SOON)),
        ];
        for (kernel_tells, why, age, wanted) in table {
            let mut pods = Appearances::new(kernel_tells, 0);
            pods.wait(&uid("a"), why, 5);
            assert_eq!(pods.next_look(5 + age), wanted, "{kernel_tells} {why:?} {age}");
        }
        let mut pods = Appearances::new(true, 0);
        pods.wait(&uid("a"), Missing::NoProcess, 5);
        pods.wait(&uid("a"), Missing::OnlyNodes, 5 + SECOND);
        pods.wait(&uid("b"), Missing::OnlyNodes, 5 + SECOND);
        assert_eq!(pods.next_look(5 + SECOND), Some(SOON), "the youngest decides");
        pods.keep_waiting(|uid| uid == "a");
        assert_eq!(pods.next_look(5 + SECOND), Some(LATER), "since it was first waited for");
    }

    #[test]
    fn a_window_is_of_a_pod_that_appeared_and_was_wanted() {
        let none = "uid-of-none";
        let mut pods = Appearances::new(true, 100);
        assert_eq!(pods.captured(none, Some(150), 200), None, "nobody told");
        pods.note("k".to_owned(), 150);
        pods.note("k".to_owned(), 160);
        assert_eq!(pods.captured("k", None, 200), Some(50), "the first process counts");
        assert_eq!(pods.captured("k", None, 300), None, "once");
        pods.note("k".to_owned(), 250);
        assert_eq!(pods.captured("k", None, 200), None, "a container that started later");
        pods.note("k".to_owned(), 150);
        let there = PodCgroup { path: PathBuf::new(), id: 1 };
        let scan = Scan { pods: [("k".to_owned(), there)].into(), ..Scan::default() };
        pods.keep(&scan, |_| false);
        assert_eq!(pods.captured("k", None, 200), Some(50));
        pods.note("k".to_owned(), 150);
        pods.keep(&scan, |uid| uid == "k");
        assert_eq!(pods.captured("k", None, 200), None, "labelled later");
        // A container of it that starts at this moment, or an event that is read late.
        pods.keep(&scan, |_| false);
        pods.note("k".to_owned(), 190);
        assert_eq!(pods.captured("k", None, 200), None, "labelled later, whatever is told then");
        pods.note("k".to_owned(), 150);
        pods.keep(&Scan::default(), |_| false);
        assert_eq!(pods.captured("k", None, 200), None, "of another tree");
        pods.keep(&scan, |_| false);
        pods.note("k".to_owned(), 150);
        assert_eq!(pods.captured("k", None, 200), Some(50), "made anew");

        let mut blind = Appearances::new(false, 100);
        assert_eq!(blind.captured(none, Some(150), 200), Some(50));
        assert_eq!(blind.captured(none, None, 200), None, "nobody waited for it");
        assert_eq!(blind.captured(none, Some(90), 200), None, "it ran before the agent did");
    }
}
