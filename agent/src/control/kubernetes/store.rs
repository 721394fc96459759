//! The objects in force, kind by kind, put together from what the watches say. Pure.
//!
//! A list is gathered beside the objects in force and replaces them whole. An object that was good and becomes bad keeps its last
//! good version. A kind that cannot be read keeps what was read before.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ORIGIN,
    asked::Cluster,
    kinds::{self, KINDS},
};
use crate::{
    control::{
        document::{Item, Kind, Object},
        reading::Reading,
    },
    snapshot::{
        Problem,
        input::{EndpointSlice, Inputs, Pod, Service},
    },
};

/// Namespace and name.
pub(super) type Name = (Arc<str>, Arc<str>);

/// What a watch says of its kind.
#[derive(Debug)]
pub(super) enum Change {
    /// A list begins.
    Begin,
    /// An object of the list.
    Listed(Name, Item),
    /// The list is whole.
    End,
    /// An object was made or changed.
    Applied(Name, Item),
    /// An object is gone.
    Gone(Name),
    /// How the watch itself is.
    State(State),
}

/// How a watch is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Nothing was heard yet.
    #[default]
    Waiting,
    /// Listed, and followed.
    Following,
    /// The cluster has no such kind now.
    Absent,
    /// The server denies it, with its words.
    Denied(String),
    /// The server does not answer, with the reason and since when.
    Unreachable(String, Arc<str>),
}

#[derive(Debug, Default)]
struct OfKind {
    objects: BTreeMap<Name, Held>,
    /// The list that is under way.
    listing: Option<BTreeMap<Name, Held>>,
    state: State,
    /// What is in `objects` is an answer of the server, though it may be an empty one.
    read: bool,
}

/// An object: its version in force, and what is wrong with its newest one.
#[derive(Debug)]
struct Held {
    good: Option<Object>,
    /// Few have one.
    problem: Option<Box<Problem>>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Store {
    kinds: BTreeMap<Kind, OfKind>,
}

impl Store {
    /// Takes a change in; whether a reading differs by it.
    pub(super) fn apply(&mut self, kind: Kind, change: Change) -> bool {
        let of = self.kinds.entry(kind).or_default();
        match change {
            Change::Begin => of.listing = Some(BTreeMap::new()),
            Change::Listed(name, item) => {
                let held = held(of.objects.get(&name), item);
                of.listing.get_or_insert_default().insert(name, held);
            }
            Change::End => {
                of.objects = of.listing.take().unwrap_or_default();
                (of.state, of.read) = (State::Following, true);
                return true;
            }
            Change::Applied(name, item) => {
                let held = held(of.objects.get(&name), item);
                of.objects.insert(name, held);
                of.state = State::Following;
                return true;
            }
            Change::Gone(name) => return of.objects.remove(&name).is_some(),
            Change::State(state) => return of.set(kind, state),
        }
        false
    }

    /// Puts an object in force that an earlier agent kept, until its kind is read.
    pub(super) fn keep(&mut self, kind: Kind, name: Name, object: Object) {
        let held = Held { good: Some(object), problem: None };
        self.kinds.entry(kind).or_default().objects.insert(name, held);
    }

    /// Whether every kind was read, or cannot be for a reason that does not hold others up.
    pub(super) fn is_complete(&self) -> bool {
        KINDS.iter().all(|kind| self.has_read(*kind))
    }

    /// Whether a kind was read, or cannot be for a reason that does not hold others up.
    pub(super) fn has_read(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|of| of.read)
    }

    /// Whether a kind that every cluster has was not read, and will not be soon.
    pub(super) fn is_stuck(&self) -> bool {
        let waits = |of: &OfKind| !of.read && matches!(of.state, State::Denied(_) | State::Unreachable(..));
        self.kinds.iter().any(|(kind, of)| is_core(*kind) && waits(of))
    }

    /// Number of objects.
    pub(super) fn len(&self) -> usize {
        self.kinds.values().map(|of| of.objects.len()).sum()
    }

    /// A slice in force.
    pub(super) fn slice(&self, name: &Name) -> Option<Arc<EndpointSlice>> {
        match self.good(Kind::EndpointSlice, name) {
            Some(Object::EndpointSlice(slice)) => Some(slice.clone()),
            _ => None,
        }
    }

    fn good(&self, kind: Kind, name: &Name) -> Option<&Object> {
        self.kinds.get(&kind)?.objects.get(name)?.good.as_ref()
    }

    /// What is in force, with the pods of other nodes that were asked for, and what is wrong.
    pub(super) fn reading<'pods>(&self, url: &str, asked: impl Iterator<Item = &'pods Arc<Pod>>) -> Reading {
        let mut inputs = Inputs::default();
        inputs.pods.extend(asked.cloned());
        for held in self.kinds.values().flat_map(|of| of.objects.values()) {
            if let Some(object) = &held.good {
                object.add_to(&mut inputs);
            }
        }
        Reading { complete: self.is_complete(), inputs, problems: self.problems(url), ignored: 0 }
    }

    /// What is wrong with objects and with watches, sorted.
    pub(super) fn problems(&self, url: &str) -> Vec<Problem> {
        let objects = self.kinds.values().flat_map(|of| of.objects.values());
        let mut problems: Vec<Problem> =
            objects.filter_map(|held| held.problem.as_deref().cloned()).collect();
        problems.extend(self.kinds.iter().filter_map(|(kind, of)| denied(*kind, of)));
        problems.extend(self.unreachable(url));
        problems.sort();
        problems
    }

    /// One problem for the server, not one for each kind: the watch that has waited longest speaks.
    fn unreachable(&self, url: &str) -> Option<Problem> {
        let states = self.kinds.values().filter_map(|of| match &of.state {
            State::Unreachable(reason, since) => Some((since, reason)),
            _ => None,
        });
        let (since, error) = states.min()?;
        let reason = format!(
            "has not answered since {since} ({error}); make it reachable. What was read before stays in force"
        );
        Some(problem(url.to_owned(), reason))
    }
}

impl Cluster for Store {
    fn slices(&self, namespace: &str) -> Vec<&EndpointSlice> {
        let Some(of) = self.kinds.get(&Kind::EndpointSlice) else { return Vec::new() };
        let first: Name = (namespace.into(), "".into());
        let of_namespace = of.objects.range(first..).take_while(|((of, _), _)| **of == *namespace);
        of_namespace
            .filter_map(|(_, held)| match &held.good {
                Some(Object::EndpointSlice(slice)) => Some(&**slice),
                _ => None,
            })
            .collect()
    }

    fn service(&self, name: &Name) -> Option<&Service> {
        match self.good(Kind::Service, name) {
            Some(Object::Service(service)) => Some(service),
            _ => None,
        }
    }

    fn is_local(&self, name: &Name) -> bool {
        self.good(Kind::Pod, name).is_some()
    }
}

impl OfKind {
    fn set(&mut self, kind: Kind, state: State) -> bool {
        match (&self.state, state) {
            // The first time counts.
            (State::Unreachable(..), State::Unreachable(..)) => return false,
            (State::Denied(_), State::Denied(_)) => return false,
            (now, next) if *now == next => return false,
            (_, State::Absent) => {
                self.objects.clear();
                (self.state, self.read) = (State::Absent, true);
            }
            (_, next) => {
                // Without its pods and services a node must not go on; without routes it may.
                self.read |= matches!(next, State::Denied(_)) && !is_core(kind);
                self.state = next;
            }
        }
        true
    }
}

/// Kinds that every cluster has.
pub(super) fn is_core(kind: Kind) -> bool {
    matches!(kind, Kind::Namespace | Kind::Pod | Kind::Service | Kind::EndpointSlice)
}

fn denied(kind: Kind, of: &OfKind) -> Option<Problem> {
    let State::Denied(words) = &of.state else { return None };
    let (name, plural) = (kinds::qualified(kind), kinds::plural(kind));
    let group = kind.version().split_once('/').map_or("\"\"", |(group, _)| group);
    let what = if of.read { "What was read before stays in force" } else { "The node waits for it" };
    let reason = format!(
        "the API server denies it ({words}); allow the agent's service account `list` and `watch` on `{plural}` of API group `{group}` in its ClusterRole. {what}"
    );
    Some(problem(name, reason))
}

fn problem(object: String, reason: String) -> Problem {
    Problem { origin: ORIGIN.to_owned(), object, field: String::new(), reason }
}

fn held(last: Option<&Held>, item: Item) -> Held {
    let last = last.and_then(|held| held.good.as_ref());
    match item {
        // What did not change stays the same allocation.
        Item::Good(_, object) => {
            let same = last.filter(|last| **last == object);
            Held { good: Some(same.cloned().unwrap_or(object)), problem: None }
        }
        // Whoever builds the snapshot says what is wrong, and what is in force meanwhile.
        Item::InPart(_, object, _) if last.is_none_or(|last| !last.is_whole()) => {
            Held { good: Some(object), problem: None }
        }
        Item::InPart(_, _, mut problem) | Item::Bad(_, mut problem) => {
            if last.is_some() {
                problem.reason.push_str(". The last good version stays in force");
            }
            Held { good: last.cloned(), problem: Some(problem.into()) }
        }
        Item::Ignored => Held { good: None, problem: None },
    }
}

#[cfg(test)]
mod tests;
