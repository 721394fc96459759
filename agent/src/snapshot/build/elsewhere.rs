//! Addresses of pods that only EndpointSlices name, by namespace. Pure.

use std::{net::IpAddr, sync::Arc};

use super::{
    Context, PodScope,
    changes::{self, Change},
    enrolment::Enrolments,
};
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
        let slices = known.into_iter().flat_map(|of| &of.slices).map(|read| &read.slice);
        let slices = changes::made(slices, &changes);
        if slices.is_empty() {
            next.namespaces.remove(namespace);
            continue;
        }
        let read = known.and_then(|known| other_versions(known, &slices));
        let read = read.unwrap_or_else(|| index(&slices, known.map_or(&[][..], |known| &known.slices)));
        next.namespaces.insert(namespace.clone(), Arc::new(read));
    }
    next
}

/// Where slices are only other versions of those before, and no address is in two of them: the places of the other addresses stay.
fn other_versions(known: &OfNamespace, now: &[&Arc<EndpointSlice>]) -> Option<OfNamespace> {
    let total = |slices: &[Read]| slices.iter().map(|read| read.addresses.len()).sum::<usize>();
    if known.slices.len() != now.len() || known.places.len() != total(&known.slices) {
        return None;
    }
    let (mut slices, mut places) = (known.slices.clone(), known.places.clone());
    let changed = |(read, now): &(&mut Read, &&Arc<EndpointSlice>)| !Arc::ptr_eq(&read.slice, now);
    let changed: Vec<_> = (0..).zip(slices.iter_mut().zip(now)).filter(|(_, both)| changed(both)).collect();
    let mut come = Vec::new();
    for (number, (read, now)) in changed {
        for (address, _) in &*read.addresses {
            places.remove(address);
        }
        *read = Read { slice: Arc::clone(now), addresses: addresses(now) };
        come.push((number, read.addresses.clone()));
    }
    for (number, addresses) in come {
        places.extend(addresses.iter().map(|(address, place)| (*address, (number, *place))));
    }
    (places.len() == total(&slices)).then_some(OfNamespace { slices, places })
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
