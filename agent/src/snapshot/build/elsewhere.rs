//! Addresses of pods that only EndpointSlices name, by namespace. Pure.

use std::{net::IpAddr, sync::Arc};

use super::{Context, PodScope, enrolment::Enrolments};
use crate::snapshot::{
    Map, Snapshot,
    elsewhere::{Elsewhere, OfNamespace, Read},
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
    let mut grouped: Map<&Arc<str>, Vec<&Arc<EndpointSlice>>> = Map::default();
    for slice in slices {
        let namespace = &slice.metadata.namespace;
        if enrolments.get(namespace).is_some_and(|settings| settings.enabled) {
            grouped.entry(namespace).or_default().push(slice);
        }
    }
    let last = previous.map(|previous| &previous.elsewhere.namespaces);
    let of = |(namespace, slices): (&Arc<str>, Vec<&Arc<EndpointSlice>>)| {
        let last = last.and_then(|last| last.get(namespace));
        let same = last.filter(|last| is_same(&last.slices, &slices));
        let known = || last.map_or(&[][..], |last| &last.slices);
        (namespace.clone(), same.cloned().unwrap_or_else(|| Arc::new(index(&slices, known()))))
    };
    Elsewhere { namespaces: grouped.into_iter().map(of).collect() }
}

fn is_same(last: &[Read], now: &[&Arc<EndpointSlice>]) -> bool {
    last.len() == now.len() && last.iter().zip(now).all(|(last, now)| Arc::ptr_eq(&last.slice, now))
}

/// Reads the addresses of those slices that are not among the `known` ones.
fn index(slices: &[&Arc<EndpointSlice>], known: &[Read]) -> OfNamespace {
    let known: Map<*const EndpointSlice, &Read> =
        known.iter().map(|read| (Arc::as_ptr(&read.slice), read)).collect();
    let read = |slice: &&Arc<EndpointSlice>| match known.get(&Arc::as_ptr(slice)) {
        Some(read) => (*read).clone(),
        None => Read { slice: Arc::clone(slice), addresses: addresses(slice) },
    };
    let slices: Vec<Read> = slices.iter().map(read).collect();
    let mut places = Map::default();
    places.reserve(slices.iter().map(|read| read.addresses.len()).sum());
    for (number, read) in (0..).zip(&slices) {
        places.extend(read.addresses.iter().map(|(address, place)| (*address, (number, *place))));
    }
    OfNamespace { slices, places }
}

fn addresses(slice: &EndpointSlice) -> Arc<[(IpAddr, u32)]> {
    let of_pods = (0..).zip(&slice.endpoints).filter(|(_, endpoint)| endpoint.pod.is_some());
    let read = |text: &String| super::address(text).ok();
    of_pods
        .flat_map(|(place, endpoint)| {
            endpoint.addresses.iter().filter_map(read).map(move |address| (address, place))
        })
        .collect()
}
