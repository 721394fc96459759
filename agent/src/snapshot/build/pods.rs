//! Pods to workloads, and this node's pods to those that are captured and those that are not. Pure.
//!
//! Of two live pods with the same address, network namespace or uid the newest counts: its predecessor is about to
//! vanish from the source.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use super::{
    Context, EXCLUDE_INBOUND_ANNOTATION, EXCLUDE_OUTBOUND_ANNOTATION, NETNS_ANNOTATION, PodScope, address,
    authorization::Authorizations,
    enrolment::{self, Enrolment, Enrolments},
    labels,
    policy::Policies,
};
use crate::snapshot::{
    LocalPod, NetnsSource, Problem, Snapshot, SpiffeId, Workload,
    captured::{CAPTURED_ANNOTATION, node_of},
    input::Pod,
};

/// What the pods amount to; the fields are the snapshot's.
#[derive(Default)]
pub(super) struct Pods {
    pub(super) workloads: HashMap<IpAddr, Arc<Workload>>,
    pub(super) local: HashMap<Arc<str>, Arc<LocalPod>>,
    pub(super) uncaptured: Vec<(Arc<Workload>, String)>,
    pub(super) on_host: HashSet<Arc<str>>,
    pub(super) bystanders: HashMap<Arc<str>, Arc<str>>,
}

/// What namespaces and policies ask for.
#[derive(Clone, Copy)]
pub(super) struct Asked<'input> {
    pub(super) enrolments: &'input Enrolments,
    pub(super) policies: &'input Policies,
    pub(super) authorizations: &'input Authorizations,
}

struct Reader<'input> {
    asked: Asked<'input>,
    context: &'input Context,
    previous: Option<&'input Snapshot>,
    /// Network namespaces of this node's pods.
    taken: HashSet<NetnsSource>,
    uids: HashSet<Arc<str>>,
    problems: &'input mut Vec<Problem>,
    pods: Pods,
}

pub(super) fn read(
    pods: &[Arc<Pod>],
    asked: &Asked<'_>,
    context: &Context,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> Pods {
    let mut live: Vec<&Pod> = pods.iter().map(|pod| &**pod).filter(|pod| is_live(pod)).collect();
    // Newest first; of equals the one that comes later.
    live.reverse();
    live.sort_by_key(|pod| std::cmp::Reverse(pod.metadata.created));
    let (taken, uids) = (HashSet::new(), HashSet::new());
    let mut reader =
        Reader { asked: *asked, context, previous, taken, uids, problems, pods: Pods::default() };
    for pod in live {
        reader.pod(pod);
    }
    let mut pods = reader.pods;
    pods.uncaptured.sort_by(|(a, _), (b, _)| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    pods
}

/// What kubelet calls a pod in its cgroup: a static pod is known there by the hash of its manifest, which the mirror in the API
/// carries as an annotation (kubelet's `ConfigMirrorAnnotationKey`).
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

fn uid_of_kubelet(pod: &Pod) -> &str {
    pod.metadata.annotations.get(MIRROR_ANNOTATION).unwrap_or(&pod.metadata.uid)
}

/// By the pod's cgroup, for pods that come from an API server.
fn cgroup(pod: &Pod) -> Result<NetnsSource, String> {
    let uid = uid_of_kubelet(pod);
    // An object without uid is known by `namespace/name`, which no cgroup is called.
    if uid.contains('/') {
        return Err(format!(
            "has neither a uid nor an annotation {NETNS_ANNOTATION} that names its network namespace"
        ));
    }
    Ok(NetnsSource::Cgroup(uid.into()))
}

fn is_live(pod: &Pod) -> bool {
    !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
}

impl Reader<'_> {
    fn pod(&mut self, pod: &Pod) {
        if !self.uids.insert(pod.metadata.uid.clone()) {
            let reason = "is the uid of a newer pod too; give each pod its own, or none. The pod is left out";
            return self.problem(pod, "metadata.uid", reason);
        }
        let settings = self.asked.enrolments.get(&pod.metadata.namespace).cloned().unwrap_or_default();
        let opted_out = enrolment::opts_out(pod, self.problems);
        let meshed = settings.enabled && !opted_out && !pod.host_network;
        let workload = self.workload(pod, &settings, meshed);
        if pod.host_network {
            self.pods.on_host.insert(pod.metadata.uid.clone());
        } else {
            self.place(pod, &workload);
        }
        if *pod.node != *self.context.node || pod.node.is_empty() {
            return;
        }
        let captured = match () {
            () if pod.host_network => Err("uses the host's network, which is never captured".to_owned()),
            () if opted_out => Err("the pod opts out (label posthaste.dev/mesh: disabled)".to_owned()),
            () if !settings.enabled => {
                Err("its namespace lacks the label posthaste.dev/mesh: enabled".to_owned())
            }
            () => self.netns(pod),
        };
        match captured {
            Ok(netns) => self.local(pod, workload, netns, &settings),
            Err(reason) => {
                self.pods.uncaptured.push((workload, reason));
                self.pods.bystanders.insert(uid_of_kubelet(pod).into(), pod.metadata.uid.clone());
            }
        }
    }

    fn workload(&mut self, pod: &Pod, settings: &Enrolment, meshed: bool) -> Arc<Workload> {
        let mtls = settings.mtls.overridden(&pod.metadata, "Pod", self.problems);
        let workload = Workload {
            uid: pod.metadata.uid.clone(),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            node: pod.node.clone(),
            identity: SpiffeId::new(
                &self.context.trust_domain,
                &pod.metadata.namespace,
                &pod.service_account,
            ),
            addresses: self.addresses(pod),
            meshed,
            captured: self.is_known_captured(pod),
            mtls: mtls.mode,
            mtls_ports: mtls.ports,
            labels: labels::of(pod, &self.context.cluster),
        };
        // What did not change stays the same allocation.
        let last = workload.addresses.first().and_then(|address| self.previous?.workloads.get(address));
        last.filter(|last| ***last == workload).cloned().unwrap_or_else(|| Arc::new(workload))
    }

    /// A folder of manifests says what is, and nobody annotates there.
    fn is_known_captured(&self, pod: &Pod) -> bool {
        let said = || pod.metadata.annotations.get(CAPTURED_ANNOTATION).and_then(|value| node_of(value));
        self.context.pods == PodScope::All || pod.node == self.context.node || said() == Some(&*pod.node)
    }

    fn addresses(&mut self, pod: &Pod) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(pod.addresses.len());
        for (index, text) in pod.addresses.iter().enumerate() {
            match address(text) {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(reason) => self.problem(pod, &format!("status.podIPs[{index}].ip"), reason),
            }
        }
        addresses
    }

    /// Makes the workload known by its addresses, unless a newer pod has them.
    fn place(&mut self, pod: &Pod, workload: &Arc<Workload>) {
        for address in &workload.addresses {
            match self.pods.workloads.entry(*address) {
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(workload.clone());
                }
                std::collections::hash_map::Entry::Occupied(newer) => {
                    let newer = newer.get();
                    let reason = format!(
                        "{address} is also the address of Pod/{}/{}, which is newer and keeps it; delete the pod that is gone",
                        newer.namespace, newer.name
                    );
                    self.problem(pod, "status.podIPs", reason);
                }
            }
        }
    }

    /// How the pod's network namespace is found, or why it is not captured.
    fn netns(&mut self, pod: &Pod) -> Result<NetnsSource, String> {
        let named = pod.metadata.annotations.get(NETNS_ANNOTATION).filter(|path| !path.is_empty());
        let (source, field) = match named {
            Some(path) => (self.netns_path(pod, path)?, format!("metadata.annotations[{NETNS_ANNOTATION}]")),
            None => (cgroup(pod)?, "metadata.uid".to_owned()),
        };
        if !self.taken.insert(source.clone()) {
            let shown = named.unwrap_or(uid_of_kubelet(pod));
            let reason = format!("`{shown}` names a newer pod too; give each pod its own network namespace");
            self.problem(pod, &field, reason.clone());
            return Err(reason);
        }
        Ok(source)
    }

    fn netns_path(&mut self, pod: &Pod, path: &str) -> Result<NetnsSource, String> {
        if Path::new(path).is_absolute() {
            return Ok(NetnsSource::Path(path.into()));
        }
        let reason = format!("`{path}` is not an absolute path; write it as `/run/netns/NAME`");
        self.problem(pod, &format!("metadata.annotations[{NETNS_ANNOTATION}]"), reason.clone());
        Err(reason)
    }

    fn local(&mut self, pod: &Pod, workload: Arc<Workload>, netns: NetnsSource, settings: &Enrolment) {
        let last = self.previous.and_then(|previous| previous.local_pods.get(&pod.metadata.uid));
        let authorization =
            self.asked.authorizations.of(pod, &workload.addresses, settings.default_deny).into();
        let local = LocalPod {
            fail_mode: settings.fail_mode(workload.mtls),
            workload,
            netns,
            runs: pod.phase == "Running",
            exclude_outbound_ports: self.ports(pod, EXCLUDE_OUTBOUND_ANNOTATION),
            exclude_inbound_ports: self.ports(pod, EXCLUDE_INBOUND_ANNOTATION),
            bulkhead: self.asked.policies.bulkhead(&pod.metadata.namespace),
            authorization,
            load: last.map(|last| last.load.clone()).unwrap_or_default(),
        };
        let local = last.filter(|last| ***last == local).cloned().unwrap_or_else(|| Arc::new(local));
        self.pods.local.insert(pod.metadata.uid.clone(), local);
    }

    /// `80,443`; what is not a port stays captured.
    fn ports(&mut self, pod: &Pod, annotation: &str) -> Vec<u16> {
        let mut ports = Vec::new();
        let text = pod.metadata.annotations.get(annotation).unwrap_or("");
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            match item.parse::<u16>() {
                Ok(port) if port > 0 => ports.push(port),
                _ => {
                    let reason = format!(
                        "`{item}` is not a port; list ports from 1 to 65535 as `80,443` (no ranges). It stays captured"
                    );
                    self.problem(pod, &format!("metadata.annotations[{annotation}]"), reason);
                }
            }
        }
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn problem(&mut self, pod: &Pod, field: &str, reason: impl Into<String>) {
        self.problems.push(Problem::of(&pod.metadata, "Pod", field, reason));
    }
}
