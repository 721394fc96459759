//! Services by what references name: indexed once for all who ask, and only where somebody may. Pure.

use std::sync::Arc;

use crate::snapshot::{
    Map,
    input::{Inputs, Service},
};

/// By namespace and name.
pub(super) type ByName<'input> = Map<(&'input str, &'input str), &'input Service>;

/// Empty where no policy and no route could ask.
pub(super) fn index<'input>(inputs: &'input Inputs) -> ByName<'input> {
    let Inputs { traffic_policies, authorization_policies, routes, services, .. } = inputs;
    let nobody = traffic_policies.is_empty() && authorization_policies.is_empty() && routes.is_empty();
    let asked_for = if nobody { &[][..] } else { services };
    let entry =
        |service: &'input Arc<Service>| ((&*service.metadata.namespace, &*service.metadata.name), &**service);
    asked_for.iter().map(entry).collect()
}
