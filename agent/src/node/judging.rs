//! What the kernel shall do with pods that are not captured, from the snapshot and the control groups of this node; and which of
//! them it keeps from the network because nobody knows them. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::{
    bpf::{HeldCounts, Judgement, Judgements},
    cgroup::Scan,
    snapshot::{FailMode, LocalPod, MtlsMode, NetnsSource, Problem, Snapshot},
};

/// Judges every pod that has a control group and is known; `read_ns` is when the groups were read.
#[must_use]
pub(super) fn judgements(snapshot: &Snapshot, scan: &Scan, read_ns: u64) -> Judgements {
    let of_kubelet = |pod: &LocalPod| match &pod.netns {
        NetnsSource::Cgroup(uid) => Some((uid.clone(), judge(pod))),
        NetnsSource::Path(_) => None,
    };
    let local: HashMap<_, _> = snapshot.local_pods.values().filter_map(|pod| of_kubelet(pod)).collect();
    let known = |uid: &str| {
        let free = || snapshot.bystanders.contains_key(uid).then_some(Judgement::Free);
        local.get(uid).copied().or_else(free)
    };
    let pods = scan.pods.iter().filter_map(|(uid, cgroup)| Some((cgroup.id, known(uid)?)));
    let others = scan.others.iter().map(|id| (*id, Judgement::Free));
    Judgements {
        has_strict: snapshot.has_strict,
        read_ns,
        groups: scan.groups.iter().copied().collect(),
        pods: pods.chain(others).collect(),
        present: scan.pods.values().map(|cgroup| cgroup.id).chain(scan.others.iter().copied()).collect(),
    }
}

/// Pods that have tried to connect and that nobody has judged, while the kernel holds such pods. `held` is what it counted.
#[must_use]
pub(super) fn unjudged(judged: &Judgements, scan: &Scan, held: &BTreeMap<u64, HeldCounts>) -> Vec<Problem> {
    let of = |id| held.get(&id).filter(|counts| counts.is_unknown && !judged.pods.contains_key(&id));
    let pods = scan.pods.iter().filter_map(|(uid, cgroup)| Some((uid, &cgroup.path, of(cgroup.id)?)));
    let found = pods.filter(|(.., counts)| judged.has_strict && counts.refused + counts.passed > 0);
    found
        .map(|(uid, folder, counts)| {
            let what = match counts.passed {
                0 => "its connections are refused (EPERM) until it is known",
                _ => "its connections were refused for as long as --unknown-pod-limit says, and are let go in plain text since",
            };
            Problem {
                origin: "node".to_owned(),
                object: format!("Pod/{uid}"),
                field: "metadata.uid".to_owned(),
                reason: format!(
                    "no object that the agent has read is the pod of the control group {}, and it may be of a strict namespace: {what}. \
                     Look whether the API server answers and has a pod with this uid (for a static pod: a mirror of it, \
                     whose namespace must be there); where it is of another cluster on this machine, let --cgroup-root \
                     name what is of this one",
                    folder.display()
                ),
            }
        })
        .collect()
}

fn judge(pod: &LocalPod) -> Judgement {
    match pod.workload.mtls {
        MtlsMode::Permissive => Judgement::Free,
        MtlsMode::Strict => Judgement::Strict { fail_open: pod.fail_mode == FailMode::Open },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::path::PathBuf;

    use super::*;
    use crate::{
        cgroup::PodCgroup,
        snapshot::build::{
            Context, build,
            tests::{self, snapshot},
        },
    };

    const OBJECTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: s, labels: {posthaste.dev/mesh: enabled}, annotations: {posthaste.dev/mtls: strict}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: o, labels: {posthaste.dev/mesh: enabled}, annotations: {posthaste.dev/mtls: strict, posthaste.dev/fail-mode: open}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: p, labels: {posthaste.dev/mesh: enabled}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: s, uid: u-strict}, spec: {nodeName: one}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: o, uid: u-open}, spec: {nodeName: one}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: p, uid: u-permissive}, spec: {nodeName: one}}
---
{apiVersion: v1, kind: Pod, metadata: {name: h, namespace: s, uid: u-host}, spec: {nodeName: one, hostNetwork: true}}
---
{apiVersion: v1, kind: Pod, metadata: {name: n, namespace: none, uid: u-mirror, annotations: {kubernetes.io/config.mirror: u-static}}, spec: {nodeName: one}}
";

    #[test]
    fn known_pods_are_judged_and_unknown_ones_are_left_to_the_kernel() {
        let (snapshot, problems) = snapshot(OBJECTS);
        assert_eq!(problems, []);
        let uids = ["u-strict", "u-open", "u-permissive", "u-host", "u-static", "u-unknown"];
        let pods = uids
            .iter()
            .zip(10..)
            .map(|(uid, id)| ((*uid).to_owned(), PodCgroup { path: PathBuf::new(), id }));
        let found =
            judgements(&snapshot, &Scan { pods: pods.collect(), groups: vec![2, 1], others: vec![3] }, 77);
        let expected = Judgements {
            has_strict: true,
            read_ns: 77,
            groups: [1, 2].into(),
            pods: [
                (3, Judgement::Free),
                (10, Judgement::Strict { fail_open: false }),
                (11, Judgement::Strict { fail_open: true }),
                (12, Judgement::Free),
                (13, Judgement::Free),
                (14, Judgement::Free),
            ]
            .into(),
            present: (10..16).chain([3]).collect(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_holds_unsaid_counts_for_namespaces_that_nobody_knows_yet() {
        const PERMISSIVE: &str =
            "{apiVersion: v1, kind: Namespace, metadata: {name: p, labels: {posthaste.dev/mesh: enabled},
            annotations: {posthaste.dev/mtls: permissive}}}";
        let table = [
            (MtlsMode::Permissive, PERMISSIVE, false),
            (MtlsMode::Strict, PERMISSIVE, true),
            (MtlsMode::Strict, "", false),
        ];
        for (mtls, objects, has_strict) in table {
            let context = Context { mtls, ..tests::context() };
            let (snapshot, _) = build(&tests::inputs(objects), &context, None);
            assert_eq!(
                judgements(&snapshot, &Scan::default(), 0).has_strict,
                has_strict,
                "{mtls:?} {objects}"
            );
        }
    }

    #[test]
    fn a_pod_that_nobody_knows_is_named_when_it_wants_to_connect() {
        let pod = |id| PodCgroup { path: format!("/cg/{id}").into(), id };
        let scan =
            Scan { pods: [("u".to_owned(), pod(7)), ("k".to_owned(), pod(8))].into(), ..Scan::default() };
        let judged = Judgements {
            has_strict: true,
            pods: [(8, Judgement::Free)].into(),
            present: [7, 8].into(),
            ..Judgements::default()
        };
        let unknown = |refused, passed| HeldCounts { refused, passed, is_unknown: true };
        let known = HeldCounts { refused: 5, passed: 0, is_unknown: false };
        // (what, what the kernel counted of a group, some namespace is strict, what is said)
        let table = [
            ("nobody tried", None, true, None),
            ("entered, and that is all", Some((7, unknown(0, 0))), true, None),
            ("refused", Some((7, unknown(3, 0))), true, Some("refused (EPERM) until it is known")),
            ("let go by a limit", Some((7, unknown(3, 1))), true, Some("let go in plain text")),
            ("nothing is strict any more", Some((7, unknown(3, 0))), false, None),
            ("judged once, forgotten since", Some((7, known)), true, None),
            ("judged just now", Some((8, unknown(3, 0))), true, None),
            ("of a folder that is gone", Some((9, unknown(3, 0))), true, None),
        ];
        for (what, held, has_strict, expected) in table {
            let held = held.into_iter().collect();
            let found = unjudged(&Judgements { has_strict, ..judged.clone() }, &scan, &held);
            assert_eq!(found.len(), usize::from(expected.is_some()), "{what}: {found:?}");
            for (problem, words) in found.iter().zip(expected) {
                assert_eq!(problem.object, "Pod/u", "{what}");
                assert!(
                    problem.reason.contains(words) && problem.reason.contains("/cg/7"),
                    "{what}: {problem}"
                );
            }
        }
    }
}
