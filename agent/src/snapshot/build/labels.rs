//! What Istio's standard metrics call a workload. Pure.

use std::sync::Arc;

use crate::snapshot::{input::Pod, model::WorkloadLabels};

const HASH_LABEL: &str = "pod-template-hash";

pub(super) fn of(pod: &Pod, cluster: &Arc<str>) -> WorkloadLabels {
    let first = |keys: &[&str]| -> Option<Arc<str>> {
        let mut values = keys.iter().filter_map(|key| pod.metadata.labels.get(key));
        values.find(|value| !value.is_empty()).map(|value| value.into())
    };
    let unknown = || Arc::from("unknown");
    let workload: Arc<str> = workload(pod).into();
    WorkloadLabels {
        app: first(&["app", "app.kubernetes.io/name"]).unwrap_or_else(unknown),
        version: first(&["version", "app.kubernetes.io/version"]).unwrap_or_else(unknown),
        canonical_service: first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or_else(|| workload.clone()),
        canonical_revision: first(&[
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ])
        .unwrap_or_else(|| "latest".into()),
        workload,
        cluster: cluster.clone(),
    }
}

/// The name of what a person deployed: the owner's without the hash or time that its controller added.
fn workload(pod: &Pod) -> &str {
    let hash = pod.metadata.labels.get(HASH_LABEL);
    let name: &str = &pod.metadata.name;
    match (&pod.owner, &pod.generate_name) {
        (Some(owner), _) => match owner.kind.as_str() {
            "ReplicaSet" | "ReplicationController" => {
                without_suffix(&owner.name, hash).unwrap_or(&owner.name)
            }
            "Job" => without_time(&owner.name),
            _ => &owner.name,
        },
        (None, Some(prefix)) => {
            let prefix = prefix.trim_end_matches('-');
            without_suffix(prefix, hash).unwrap_or(prefix)
        }
        // Written by hand after a Deployment's pod: `web-7d4b9c-x2x4p`.
        (None, None) => {
            name.rsplit_once('-').and_then(|(set, _)| without_suffix(set, Some(hash?))).unwrap_or(name)
        }
    }
}

/// `web-7d4b9c` without the hash: the one that the label tells, else a last part that looks like one.
fn without_suffix<'name>(name: &'name str, hash: Option<&str>) -> Option<&'name str> {
    let (rest, last) = name.rsplit_once('-')?;
    let is_hash = match hash {
        Some(hash) => last == hash,
        // The alphabet of Kubernetes' SafeEncodeString.
        None => {
            (5..=10).contains(&last.len())
                && last.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b))
        }
    };
    (is_hash && !rest.is_empty()).then_some(rest)
}

/// `backup-28012345` of a CronJob without its time in minutes.
fn without_time(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((rest, time)) if (8..=10).contains(&time.len()) && time.bytes().all(|b| b.is_ascii_digit()) => {
            rest
        }
        _ => name,
    }
}
