//! What differs between two readings that differ in EndpointSlices alone, which is what changes all day in a large cluster. Pure.

use std::sync::Arc;

use crate::snapshot::{
    Map,
    input::{EndpointSlice, Inputs},
};

/// A slice that came, went or is another version.
#[derive(Clone, Copy)]
pub(super) struct Change<'input> {
    pub(super) before: Option<&'input Arc<EndpointSlice>>,
    pub(super) now: Option<&'input Arc<EndpointSlice>>,
}

/// The slices that differ; none where other objects do, compared by their allocations: a source keeps those that did not change.
pub(super) fn of_slices<'input>(before: &'input Inputs, now: &'input Inputs) -> Option<Vec<Change<'input>>> {
    let same = are_same(&before.namespaces, &now.namespaces)
        && are_same(&before.pods, &now.pods)
        && are_same(&before.services, &now.services)
        && are_same(&before.traffic_policies, &now.traffic_policies)
        && are_same(&before.authorization_policies, &now.authorization_policies)
        && are_same(&before.routes, &now.routes)
        && are_same(&before.reference_grants, &now.reference_grants);
    same.then(|| walk(&before.endpoint_slices, &now.endpoint_slices))
}

fn are_same<T>(before: &[Arc<T>], now: &[Arc<T>]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(before, now)| Arc::ptr_eq(before, now))
}

/// Both at once. Where they are not sorted by name, a slice may be said to have gone and come.
fn walk<'input>(
    mut before: &'input [Arc<EndpointSlice>],
    mut now: &'input [Arc<EndpointSlice>],
) -> Vec<Change<'input>> {
    let mut changes = Vec::new();
    loop {
        match (before.split_first(), now.split_first()) {
            (None, None) => return changes,
            (Some((one, rest)), None) => {
                changes.push(Change { before: Some(one), now: None });
                before = rest;
            }
            (None, Some((one, rest))) => {
                changes.push(Change { before: None, now: Some(one) });
                now = rest;
            }
            (Some((one, rest)), Some((other, others))) => {
                let order = if Arc::ptr_eq(one, other) { None } else { Some(key(one).cmp(&key(other))) };
                if order.is_none_or(std::cmp::Ordering::is_le) {
                    before = rest;
                }
                if order.is_none_or(std::cmp::Ordering::is_ge) {
                    now = others;
                }
                match order {
                    None => {}
                    Some(order) => changes.push(Change {
                        before: order.is_le().then_some(one),
                        now: order.is_ge().then_some(other),
                    }),
                }
            }
        }
    }
}

fn key(slice: &EndpointSlice) -> (&str, &str) {
    (&slice.metadata.namespace, &slice.metadata.name)
}

/// A list with the changes made to it: another version stands where the one before it stood, what is new by its name.
pub(super) fn made<'input>(
    list: impl Iterator<Item = &'input Arc<EndpointSlice>>,
    changes: &[Change<'input>],
) -> Vec<&'input Arc<EndpointSlice>> {
    let pointer = |slice: &Arc<EndpointSlice>| Arc::as_ptr(slice);
    let gone: Map<_, Option<_>> =
        changes.iter().filter_map(|change| Some((pointer(change.before?), change.now))).collect();
    let mut placed = 0;
    let kept = list.filter_map(|slice| match gone.get(&pointer(slice)) {
        None => Some(slice),
        Some(now) => {
            placed += usize::from(now.is_some());
            *now
        }
    });
    let mut made: Vec<_> = kept.collect();
    if placed < changes.iter().filter(|change| change.now.is_some()).count() {
        for new in changes.iter().filter_map(|change| change.now) {
            if !made.iter().any(|slice| Arc::ptr_eq(slice, new)) {
                let place = made.partition_point(|slice| key(slice) < key(new));
                made.insert(place, new);
            }
        }
    }
    made
}
