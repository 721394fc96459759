//! The endpoints of an EndpointSlice with all their texts in one: a cluster has a hundred thousand of them, each with five or more, and
//! every node keeps them. Pure.

/// An endpoint on its own: `endpoints[]` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointOfSlice {
    /// Only the first is used, as Kubernetes says.
    pub addresses: Vec<String>,
    /// `conditions.ready`; absent means true.
    pub ready: bool,
    /// `conditions.serving`; absent means true.
    pub serving: bool,
    /// `conditions.terminating`; absent means false.
    pub terminating: bool,
    /// `nodeName`; empty where absent.
    pub node: String,
    /// `zone`; empty where absent.
    pub zone: String,
    /// `hints.forZones[].name`.
    pub for_zones: Vec<String>,
    /// `hints.forNodes[].name`.
    pub for_nodes: Vec<String>,
    /// Name and uid of `targetRef`, where it is a Pod; the uid is empty where the reference has none.
    pub pod: Option<(String, String)>,
}

/// `endpoints`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// The texts of all endpoints: addresses, node, zone, zones and nodes of hints, name and uid of the pod.
    text: Box<str>,
    /// Where each text ends.
    ends: Box<[u32]>,
    packed: Box<[Packed]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    /// Place of its first text in `ends`.
    first: u32,
    addresses: u16,
    for_zones: u16,
    for_nodes: u16,
    flags: u8,
}

const READY: u8 = 1;
const SERVING: u8 = 2;
const TERMINATING: u8 = 4;
const HAS_POD: u8 = 8;

/// One of the endpoints.
#[derive(Clone, Copy)]
pub struct EndpointRef<'slice> {
    of: &'slice Endpoints,
    packed: Packed,
}

/// The pod behind an endpoint, in the namespace of its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetPod<'slice> {
    /// Its name.
    pub name: &'slice str,
    /// Its uid; empty where the reference has none.
    pub uid: &'slice str,
}

impl Endpoints {
    /// All of them, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EndpointRef<'_>> + Clone {
        self.packed.iter().map(|packed| EndpointRef { of: self, packed: *packed })
    }

    /// The one at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<EndpointRef<'_>> {
        self.packed.get(place).map(|packed| EndpointRef { of: self, packed: *packed })
    }

    fn text(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map_or(0, |end| *end as usize);
        let start = place.checked_sub(1).map_or(0, end);
        self.text.get(start..end(place)).unwrap_or_default()
    }
}

impl FromIterator<EndpointOfSlice> for Endpoints {
    fn from_iter<I: IntoIterator<Item = EndpointOfSlice>>(endpoints: I) -> Self {
        let mut packing = Packing::default();
        endpoints.into_iter().for_each(|endpoint| packing.add(&endpoint));
        Self { text: packing.text.into(), ends: packing.ends.into(), packed: packing.packed.into() }
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(EndpointRef::unpacked)).finish()
    }
}

#[derive(Default)]
struct Packing {
    text: String,
    ends: Vec<u32>,
    packed: Vec<Packed>,
}

impl Packing {
    fn add(&mut self, endpoint: &EndpointOfSlice) {
        // The API allows 100 addresses, and an object is no larger than some megabytes.
        let few = |list: &[String]| list.len().min(usize::from(u16::MAX)) as u16;
        let set = |flag: u8, is: bool| if is { flag } else { 0 };
        let flags = set(READY, endpoint.ready)
            | set(SERVING, endpoint.serving)
            | set(TERMINATING, endpoint.terminating)
            | set(HAS_POD, endpoint.pod.is_some());
        let (addresses, for_zones, for_nodes) =
            (few(&endpoint.addresses), few(&endpoint.for_zones), few(&endpoint.for_nodes));
        self.packed.push(Packed {
            first: u32::try_from(self.ends.len()).unwrap_or(u32::MAX),
            addresses,
            for_zones,
            for_nodes,
            flags,
        });
        let lists = [(&endpoint.for_zones, for_zones), (&endpoint.for_nodes, for_nodes)];
        endpoint.addresses.iter().take(usize::from(addresses)).for_each(|text| self.push(text));
        [&endpoint.node, &endpoint.zone].into_iter().for_each(|text| self.push(text));
        for (list, count) in lists {
            list.iter().take(usize::from(count)).for_each(|text| self.push(text));
        }
        if let Some((name, uid)) = &endpoint.pod {
            self.push(name);
            self.push(uid);
        }
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }
}

impl<'slice> EndpointRef<'slice> {
    /// See [`EndpointOfSlice::addresses`].
    pub fn addresses(self) -> impl Iterator<Item = &'slice str> {
        self.texts(0, self.packed.addresses)
    }

    /// See [`EndpointOfSlice::ready`].
    #[must_use]
    pub fn ready(self) -> bool {
        self.has(READY)
    }

    /// See [`EndpointOfSlice::serving`].
    #[must_use]
    pub fn serving(self) -> bool {
        self.has(SERVING)
    }

    /// See [`EndpointOfSlice::terminating`].
    #[must_use]
    pub fn terminating(self) -> bool {
        self.has(TERMINATING)
    }

    /// See [`EndpointOfSlice::node`].
    #[must_use]
    pub fn node(self) -> &'slice str {
        self.text(usize::from(self.packed.addresses))
    }

    /// See [`EndpointOfSlice::zone`].
    #[must_use]
    pub fn zone(self) -> &'slice str {
        self.text(usize::from(self.packed.addresses) + 1)
    }

    /// See [`EndpointOfSlice::for_zones`].
    pub fn for_zones(self) -> impl Iterator<Item = &'slice str> {
        self.texts(usize::from(self.packed.addresses) + 2, self.packed.for_zones)
    }

    /// See [`EndpointOfSlice::for_nodes`].
    pub fn for_nodes(self) -> impl Iterator<Item = &'slice str> {
        self.texts(self.after_zones(), self.packed.for_nodes)
    }

    /// See [`EndpointOfSlice::pod`].
    #[must_use]
    pub fn pod(self) -> Option<TargetPod<'slice>> {
        let place = self.after_zones() + usize::from(self.packed.for_nodes);
        self.has(HAS_POD).then(|| TargetPod { name: self.text(place), uid: self.text(place + 1) })
    }

    /// On its own.
    #[must_use]
    pub fn unpacked(self) -> EndpointOfSlice {
        EndpointOfSlice {
            addresses: self.addresses().map(str::to_owned).collect(),
            ready: self.ready(),
            serving: self.serving(),
            terminating: self.terminating(),
            node: self.node().to_owned(),
            zone: self.zone().to_owned(),
            for_zones: self.for_zones().map(str::to_owned).collect(),
            for_nodes: self.for_nodes().map(str::to_owned).collect(),
            pod: self.pod().map(|pod| (pod.name.to_owned(), pod.uid.to_owned())),
        }
    }

    fn has(self, flag: u8) -> bool {
        self.packed.flags & flag != 0
    }

    fn after_zones(self) -> usize {
        usize::from(self.packed.addresses) + 2 + usize::from(self.packed.for_zones)
    }

    /// One of its texts.
    fn text(self, place: usize) -> &'slice str {
        self.of.text(self.packed.first as usize + place)
    }

    fn texts(self, from: usize, count: u16) -> impl Iterator<Item = &'slice str> {
        (from..from + usize::from(count)).map(move |place| self.text(place))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn texts(most: usize) -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(".{0,6}", 0..most)
    }

    fn endpoint() -> impl Strategy<Value = EndpointOfSlice> {
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        let pod = proptest::option::of((".{0,6}", ".{0,6}"));
        (texts(3), flags, ".{0,6}", ".{0,6}", texts(3), texts(3), pod).prop_map(
            |(addresses, (ready, serving, terminating), node, zone, for_zones, for_nodes, pod)| {
                EndpointOfSlice {
                    addresses,
                    ready,
                    serving,
                    terminating,
                    node,
                    zone,
                    for_zones,
                    for_nodes,
                    pod,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(given in proptest::collection::vec(endpoint(), 0..5)) {
            let packed: Endpoints = given.iter().cloned().collect();
            let unpacked: Vec<_> = packed.iter().map(EndpointRef::unpacked).collect();
            prop_assert_eq!(&unpacked, &given);
            for (place, endpoint) in given.iter().enumerate() {
                prop_assert_eq!(&packed.get(place).unwrap().unpacked(), endpoint);
            }
            prop_assert!(packed.get(given.len()).is_none());
            let again: Endpoints = unpacked.into_iter().collect();
            prop_assert!(again == packed);
        }

        #[test]
        fn others_are_not_equal(one in endpoint(), other in endpoint()) {
            let pack = |endpoint: &EndpointOfSlice| Endpoints::from_iter([endpoint.clone()]);
            prop_assert_eq!(pack(&one) == pack(&other), one == other);
        }
    }
}
