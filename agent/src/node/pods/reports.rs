//! What people learn of the pods of this node: when they were captured, what they wait for, what goes past the agent.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{Pods, problem};
use crate::{
    bpf::HeldCounts,
    netns::{TcpConnection, sockets},
    node::locate::Missing,
    observe::{
        monotonic_ns,
        views::{ConnectionBeforeView, EnrolmentView},
    },
    snapshot::{NetnsSource, Problem, Snapshot},
};

/// A pod without a namespace of its own for so long is reported.
const REPORT_AFTER_NS: u64 = 5_000_000_000;
/// On a busy node the kernel's word of a pod is read so long after the pod was found without it.
const LATE_NS: u64 = 3_000_000_000;
/// Between two looks at connections from before.
const LOOK_EVERY_NS: u64 = 900_000_000;

impl Pods {
    /// Looks which connections from before still live.
    pub(super) async fn look_at_before(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.looked_ns) < LOOK_EVERY_NS {
            return;
        }
        self.looked_ns = now_ns;
        for enrolled in self.enrolled.values_mut().filter(|enrolled| !enrolled.before.is_empty()) {
            let (threads, options) = (&self.means.threads, &self.means.sockets);
            let now = sockets::uncaptured(threads, &enrolled.namespace, options).await;
            let now: HashSet<TcpConnection> = now.into_iter().collect();
            enrolled.before.retain(|one| now.contains(one));
        }
    }

    /// Looks which connections pods have that are not captured, where somebody asks about their namespace.
    pub(super) async fn look_at_present(&self, snapshot: &Snapshot) {
        let asked = self.means.enrolments.asked(monotonic_ns());
        let mut present = HashMap::new();
        let uncaptured = snapshot.uncaptured.iter().filter(|(pod, _)| asked.contains(&pod.namespace));
        let meant: HashSet<&str> = uncaptured.map(|(pod, _)| &*pod.uid).collect();
        for (of_kubelet, uid) in snapshot.bystanders.iter().filter(|(_, uid)| meant.contains(&***uid)) {
            // One that has ended, is not started yet, or shares the node's network has none to be listed.
            let Ok(place) = self.locator.find(&NetnsSource::Cgroup(Arc::clone(of_kubelet))) else { continue };
            let Ok(namespace) = self.means.threads.open(place.path).await else { continue };
            let (threads, options) = (&self.means.threads, &self.means.sockets);
            let found = sockets::uncaptured(threads, &Arc::new(namespace), options).await;
            present.insert(Arc::clone(uid), found.len());
        }
        self.means.enrolments.replace_present(present);
    }

    /// Takes note of pods that the kernel captures since just now.
    pub(super) fn note_captured(&mut self) {
        let now_ns = monotonic_ns();
        for (uid, enrolled) in &mut self.enrolled {
            let NetnsSource::Cgroup(of_kubelet) = &enrolled.pod.netns else { continue };
            if enrolled.plumbing.is_none() || enrolled.window_ns.is_some() {
                continue;
            }
            let captured_ns = *enrolled.captured_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(captured_ns) > LATE_NS {
                continue;
            }
            let window_ns = self.appearances.captured(of_kubelet, enrolled.started_ns, captured_ns);
            if let Some(window_ns) = window_ns {
                enrolled.window_ns = Some(window_ns);
                self.means.enrolments.note_window(window_ns / 1000);
                tracing::info!(pod = %uid, window_us = window_ns / 1000, "captured");
            }
        }
    }

    /// Counts what the kernel refused or let go of pods that were not captured, since the last time.
    pub(super) fn note_held(&mut self, held: BTreeMap<u64, HeldCounts>) {
        for (group, now) in &held {
            let before = self.held.get(group).copied().unwrap_or_default();
            let refused = now.refused.saturating_sub(before.refused);
            self.means.enrolments.note_held(refused, now.passed.saturating_sub(before.passed));
        }
        self.held = held;
    }

    /// Shows people what is known of the pods.
    pub(super) fn publish(&self) {
        let captured = self.enrolled.iter().map(|(uid, enrolled)| {
            let before = enrolled.before.iter().map(|one| ConnectionBeforeView {
                local: one.local.to_string(),
                remote: one.remote.to_string(),
            });
            let view = EnrolmentView {
                waiting: None,
                capture_window_us: enrolled.window_ns.map(|window_ns| window_ns / 1000),
                connections_before: before.collect(),
            };
            (Arc::clone(uid), view)
        });
        let waiting = self.appearances.waiting(0).map(|(uid, why, _)| {
            (Arc::clone(uid), EnrolmentView { waiting: Some(why.to_string()), ..EnrolmentView::default() })
        });
        self.means.enrolments.replace(captured.chain(waiting).collect());
    }

    /// Pods that will not come to be captured without somebody's help. A pod that is not started yet is none of them.
    pub(super) fn late(&self, snapshot: &Snapshot) -> Vec<Problem> {
        let now_ns = monotonic_ns();
        let of_pod = |(uid, why, age_ns): (&Arc<str>, Missing, u64)| {
            let pod = snapshot.local_pods.get(uid)?;
            let is_late = match why {
                Missing::Hidden => true,
                Missing::OnlyNodes => age_ns > REPORT_AFTER_NS,
                Missing::NoCgroup | Missing::NoProcess => pod.runs && age_ns > REPORT_AFTER_NS,
            };
            is_late.then(|| problem(pod, &why))
        };
        self.appearances.waiting(now_ns).filter_map(of_pod).chain(self.cannot_hold(snapshot)).collect()
    }

    /// The connect hook knows groups of version 2 only.
    fn cannot_hold(&self, snapshot: &Snapshot) -> Option<Problem> {
        let scan = self.locator.scan();
        (snapshot.has_strict && scan.groups.is_empty() && !scan.pods.is_empty()).then(|| Problem {
            origin: "node".to_owned(),
            object: "Node".to_owned(),
            field: String::new(),
            reason: "the pods of this node have control groups of version 1 only, so a pod of a strict namespace is not held before it is \
                     captured; boot the node with systemd.unified_cgroup_hierarchy=1, or give kubelet the systemd driver"
                .to_owned(),
        })
    }
}
