//! Addresses of pods that only EndpointSlices name, by namespace. Pure.

use std::{net::IpAddr, sync::Arc};

use super::{
    Context, PodScope,
    changes::{self, Change},
    enrolment::Enrolments,
};
use crate::snapshot::{
    Map, Snapshot,
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
        (namespace.clone(), same.cloned().unwrap_or_else(|| Arc::new(index(&slices))))
    };
    Elsewhere { namespaces: grouped.into_iter().map(of).collect() }
}

/// The same after a few slices changed; namespaces without changes are shared.
pub(super) fn update(
    last: &Elsewhere,
    changes: &[Change<'_>],
    enrolments: &Enrolments,
    context: &Context,
) -> Elsewhere {
    let mut next = last.clone();
    if context.pods == PodScope::All {
        return next;
    }
    let mut grouped: Map<&Arc<str>, Vec<Change<'_>>> = Map::default();
    for change in changes {
        let Some(slice) = change.before.or(change.now) else { continue };
        grouped.entry(&slice.metadata.namespace).or_default().push(*change);
    }
    for (namespace, changes) in grouped {
        if !enrolments.get(namespace).is_some_and(|settings| settings.enabled) {
            continue;
        }
        let known = last.namespaces.get(namespace);
        let slices = known.into_iter().flat_map(|of| &of.slices);
        let slices = changes::made(slices, &changes);
        if slices.is_empty() {
            next.namespaces.remove(namespace);
            continue;
        }
        let read = known.and_then(|known| other_versions(known, &slices));
        let read = read.unwrap_or_else(|| index(&slices));
        next.namespaces.insert(namespace.clone(), Arc::new(read));
    }
    next
}

/// Where slices are only other versions of those before, and no address is in two of them: the places of the other addresses stay.
fn other_versions(known: &OfNamespace, now: &[&Arc<EndpointSlice>]) -> Option<OfNamespace> {
    if known.slices.len() != now.len() || known.places.len() != known.addresses {
        return None;
    }
    let both = (0..).zip(known.slices.iter().zip(now));
    let changed: Vec<_> = both.filter(|(_, (last, now))| !Arc::ptr_eq(last, now)).collect();
    let (mut places, mut count) = (known.places.clone(), known.addresses);
    for (address, _) in changed.iter().flat_map(|(_, (last, _))| addresses(last)) {
        places.remove(&address);
        count -= 1;
    }
    for (number, (_, now)) in &changed {
        count += enter(&mut places, *number, now);
    }
    let slices = now.iter().map(|slice| Arc::clone(slice)).collect();
    (places.len() == count).then_some(OfNamespace { slices, addresses: count, places })
}

fn is_same(last: &[Arc<EndpointSlice>], now: &[&Arc<EndpointSlice>]) -> bool {
    last.len() == now.len() && last.iter().zip(now).all(|(last, now)| Arc::ptr_eq(last, now))
}

fn index(slices: &[&Arc<EndpointSlice>]) -> OfNamespace {
    let mut places = Map::default();
    places.reserve(slices.iter().map(|slice| slice.endpoints.iter().len()).sum());
    let addresses = (0..).zip(slices).map(|(number, slice)| enter(&mut places, number, slice)).sum();
    OfNamespace { slices: slices.iter().map(|slice| Arc::clone(slice)).collect(), addresses, places }
}

/// Notes the addresses of a slice; how many they are.
fn enter(places: &mut Map<IpAddr, (u32, u32)>, number: u32, slice: &EndpointSlice) -> usize {
    addresses(slice).map(|(address, place)| places.insert(address, (number, place))).count()
}

/// Addresses of pods and their places among the endpoints.
fn addresses(slice: &EndpointSlice) -> impl Iterator<Item = (IpAddr, u32)> {
    let of_pods = (0..).zip(slice.endpoints.iter()).filter(|(_, endpoint)| endpoint.pod().is_some());
    of_pods.flat_map(|(place, endpoint)| {
        endpoint.addresses().filter_map(|text| super::address(text).ok()).map(move |address| (address, place))
    })
}
