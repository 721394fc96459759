//! The examples under `deploy/` are what the file source takes, without a problem.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use super::*;
use crate::snapshot::build::{Context, PodScope, build};

#[test]
fn two_nodes_is_taken_without_a_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/two-nodes");
    let reading = FileSource::open(&folder).unwrap().read();
    assert_eq!((reading.problems.as_slice(), reading.ignored), (&[][..], 0));
    for (node, pod) in [("node-a", "client"), ("node-b", "web-1")] {
        let (snapshot, problems) = build(&reading.inputs, &context(node), None);
        assert!(problems.is_empty(), "{problems:?}");
        let local: Vec<&str> = snapshot.local_pods.values().map(|pod| &*pod.workload.name).collect();
        assert_eq!(local, [pod]);
        let [service] = snapshot.services.as_slice() else { panic!("{:?}", snapshot.services) };
        let endpoint = &service.ports[0].endpoints[0];
        assert_eq!(endpoint.address, "10.2.0.10:8080".parse().unwrap());
        assert!(endpoint.workload.as_ref().unwrap().meshed);
    }
}

#[test]
fn policies_are_taken_without_a_problem() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/policies");
    let reading = FileSource::open(&folder).unwrap().read();
    assert_eq!((reading.problems.as_slice(), reading.ignored), (&[][..], 0));
    let (snapshot, problems) = build(&reading.inputs, &context("node-a"), None);
    assert!(problems.is_empty(), "{problems:?}");
    let [service] = snapshot.services.as_slice() else { panic!("{:?}", snapshot.services) };
    let [web, search] = [0, 1].map(|port| &service.ports[port].policy);
    assert_eq!((web.hedging, web.limits.requests, web.retry.attempts), (None, 1000, 1));
    assert!(search.hedging.is_some() && web.budget.percent == 20);
}

fn context(node: &str) -> Context {
    Context {
        node: node.into(),
        zone: None,
        trust_domain: "cluster.local".into(),
        cluster: "Kubernetes".into(),
        mtls: crate::snapshot::MtlsMode::Permissive,
        generation: 1,
        pods: PodScope::All,
    }
}
