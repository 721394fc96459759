//! What the kernel shall do with pods that are not captured, from the snapshot and the control groups of this node. Pure.

use std::collections::HashMap;

use crate::{
    bpf::{Judgement, Judgements},
    cgroup::Scan,
    snapshot::{FailMode, LocalPod, MtlsMode, NetnsSource, Snapshot},
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
    Judgements {
        has_strict: snapshot.has_strict,
        read_ns,
        groups: scan.groups.iter().copied().collect(),
        pods: scan.pods.iter().filter_map(|(uid, cgroup)| Some((cgroup.id, known(uid)?))).collect(),
        present: scan.pods.values().map(|cgroup| cgroup.id).collect(),
    }
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
    use crate::{cgroup::PodCgroup, snapshot::build::tests::snapshot};

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
        let found = judgements(&snapshot, &Scan { pods: pods.collect(), groups: vec![2, 1] }, 77);
        let expected = Judgements {
            has_strict: true,
            read_ns: 77,
            groups: [1, 2].into(),
            pods: [
                (10, Judgement::Strict { fail_open: false }),
                (11, Judgement::Strict { fail_open: true }),
                (12, Judgement::Free),
                (13, Judgement::Free),
                (14, Judgement::Free),
            ]
            .into(),
            present: (10..16).collect(),
        };
        assert_eq!(found, expected);
    }
}
