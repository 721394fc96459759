//! Services by what references name: indexed once for all who ask, and only where somebody may. Pure.

use std::sync::Arc;

use crate::snapshot::{
    Map,
    input::{Inputs, Service},
};

/// By namespace and name.
pub(super) type ByName<'input> = Map<(&'input str, &'input str), &'input Service>;

/// Empty where nobody asks.
pub(super) fn index(services: &[Arc<Service>], asked: bool) -> ByName<'_> {
    let asked_for = if asked { services } else { &[][..] };
    asked_for
        .iter()
        .map(|service| ((&*service.metadata.namespace, &*service.metadata.name), &**service))
        .collect()
}

/// For all who may ask in a whole build.
pub(super) fn for_all(inputs: &Inputs) -> ByName<'_> {
    let Inputs { traffic_policies, authorization_policies, routes, services, .. } = inputs;
    let nobody = traffic_policies.is_empty() && authorization_policies.is_empty() && routes.is_empty();
    index(services, !nobody)
}
