//! Tables for the builder, in the words of Kubernetes: YAML through the real parser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod endpoints;
mod enrolment;
mod policies;
mod reuse;
mod routes;
mod services;
mod size;
mod update;

use super::{Context, PodScope, build};
use crate::{
    control::document::{self, Format, Item, Object},
    snapshot::{Problem, Snapshot, input::Inputs},
};

pub(crate) fn inputs(yaml: &str) -> Inputs {
    let mut inputs = Inputs::default();
    for item in document::parse("test.yaml", yaml, Format::Yaml) {
        match item {
            Item::Good(_, Object::Namespace(object)) => inputs.namespaces.push(object),
            Item::Good(_, Object::Pod(object)) => inputs.pods.push(object),
            Item::Good(_, Object::Service(object)) => inputs.services.push(object),
            Item::Good(_, Object::EndpointSlice(object)) => inputs.endpoint_slices.push(object),
            Item::Good(_, Object::TrafficPolicy(object)) => inputs.traffic_policies.push(object),
            Item::Good(_, Object::AuthorizationPolicy(object))
            | Item::InPart(_, Object::AuthorizationPolicy(object), _) => {
                inputs.authorization_policies.push(object);
            }
            Item::Good(_, Object::Route(object)) => inputs.routes.push(object),
            Item::Good(_, Object::ReferenceGrant(object)) => inputs.reference_grants.push(object),
            other => panic!("{other:?}"),
        }
    }
    inputs
}

pub(crate) fn context() -> Context {
    Context {
        node: "one".into(),
        zone: Some("a".into()),
        trust_domain: "cluster.local".into(),
        cluster: "Kubernetes".into(),
        mtls: crate::snapshot::MtlsMode::Permissive,
        generation: 1,
        pods: PodScope::All,
    }
}

pub(crate) fn snapshot(yaml: &str) -> (Snapshot, Vec<Problem>) {
    build(&inputs(yaml), &context(), None)
}

/// Fields of the problems, which is what tables compare.
pub(super) fn fields(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| &*problem.field).collect()
}
