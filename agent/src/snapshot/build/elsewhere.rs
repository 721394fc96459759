//! Addresses of pods that only EndpointSlices name, by namespace. Pure.

use std::{collections::HashMap, sync::Arc};

use super::{Context, PodScope, enrolment::Enrolments};
use crate::snapshot::{
    Snapshot,
    elsewhere::{Elsewhere, OfNamespace},
    input::EndpointSlice,
};

/// Of enrolled namespaces, and only where the inputs do not hold every pod anyway.
pub(super) fn read(
    slices: &[Arc<EndpointSlice>],
    enrolments: &Enrolments,
    context: &Context,
    previous: Option<&Snapshot>,
) -> Elsewhere {
    if context.pods == PodScope::All {
        return Elsewhere::default();
    }
    let mut grouped: HashMap<&Arc<str>, Vec<Arc<EndpointSlice>>> = HashMap::new();
    for slice in slices {
        let namespace = &slice.metadata.namespace;
        if enrolments.get(namespace).is_some_and(|settings| settings.enabled) {
            grouped.entry(namespace).or_default().push(slice.clone());
        }
    }
    let last = previous.map(|previous| &previous.elsewhere.namespaces);
    let of = |(namespace, slices): (&Arc<str>, Vec<Arc<EndpointSlice>>)| {
        let same = last.and_then(|last| last.get(namespace)).filter(|last| is_same(&last.slices, &slices));
        (namespace.clone(), same.cloned().unwrap_or_else(|| Arc::new(index(slices))))
    };
    Elsewhere { namespaces: grouped.into_iter().map(of).collect() }
}

fn is_same(last: &[Arc<EndpointSlice>], now: &[Arc<EndpointSlice>]) -> bool {
    last.len() == now.len() && last.iter().zip(now).all(|(last, now)| Arc::ptr_eq(last, now))
}

fn index(slices: Vec<Arc<EndpointSlice>>) -> OfNamespace {
    let mut places = HashMap::with_capacity(slices.iter().map(|slice| slice.endpoints.len()).sum());
    for (number, slice) in (0..).zip(&slices) {
        for (place, endpoint) in (0..).zip(&slice.endpoints) {
            if endpoint.pod.is_none() {
                continue;
            }
            for address in endpoint.addresses.iter().filter_map(|text| super::address(text).ok()) {
                places.insert(address, (number, place));
            }
        }
    }
    OfNamespace { slices, places }
}
