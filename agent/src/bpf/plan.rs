//! From what the kernel holds and what is wanted to the operations between them. Pure.
//!
//! The order is the point. A pod that comes gets its counters, exclusions, listeners and inbound hook before its
//! settings, which switch everything on in one step; a pod that leaves loses its settings first. An exclusion that
//! is new is there before the settings speak of it.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::{Address, ExcludedPort, PodSettings};

/// What the maps and links hold, or should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// By network namespace cookie.
    pub(super) pods: BTreeMap<u64, PodState>,
    /// The node's own addresses, as their four words.
    pub(super) node_addresses: BTreeSet<[u32; 4]>,
}

/// What the kernel holds of one pod, or should. A pod that is half done is half filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodState {
    /// It has counters.
    pub(super) counted: bool,
    /// The inbound hook is attached and pinned.
    pub(super) attached: bool,
    /// Its settings.
    pub(super) settings: Option<u32>,
    /// Ports that pass.
    pub(super) excluded: BTreeSet<ExcludedPort>,
    /// The inbound listeners.
    pub(super) listeners: Listeners,
}

/// Which listeners the kernel steers to: compared by identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listeners {
    /// Identity of the IPv4 listener; 0 for none.
    pub(super) v4: usize,
    /// Identity of the IPv6 listener; 0 for none.
    pub(super) v6: usize,
}

/// Address family of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One step in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Connections from this address pass.
    AddNodeAddress(Address),
    /// They no longer pass.
    RemoveNodeAddress(Address),
    /// Make the pod's counters, from zero.
    Count(u64),
    /// Report and remove them.
    Uncount(u64),
    /// Let a port pass.
    Exclude(ExcludedPort),
    /// No longer.
    Include(ExcludedPort),
    /// Steer to this listener; the number is its identity.
    SetListener(u64, Family, usize),
    /// Steer to none.
    RemoveListener(u64, Family),
    /// Attach and pin the inbound hook.
    Attach(u64),
    /// Remove it.
    Detach(u64),
    /// Switch the pod on, or change its settings.
    Enrol(u64, PodSettings),
    /// Switch it off.
    Release(u64),
}

impl Op {
    /// The pod it is about.
    pub(super) fn pod(&self) -> Option<u64> {
        match self {
            Self::AddNodeAddress(_) | Self::RemoveNodeAddress(_) => None,
            Self::Exclude(port) | Self::Include(port) => Some(port.cookie),
            Self::Count(cookie)
            | Self::Uncount(cookie)
            | Self::SetListener(cookie, ..)
            | Self::RemoveListener(cookie, _)
            | Self::Attach(cookie)
            | Self::Detach(cookie)
            | Self::Enrol(cookie, _)
            | Self::Release(cookie) => Some(*cookie),
        }
    }
}

/// The operations that lead from `applied` to `wanted`. Pods that leave come first, so that they make room.
pub(super) fn plan(applied: &State, wanted: &State) -> Vec<Op> {
    let mut ops = Vec::new();
    for (cookie, pod) in applied.pods.iter().filter(|(cookie, _)| !wanted.pods.contains_key(cookie)) {
        leave(*cookie, pod, &mut ops);
    }
    let gone = applied.node_addresses.difference(&wanted.node_addresses);
    ops.extend(gone.map(|words| Op::RemoveNodeAddress(Address { words: *words })));
    let new = wanted.node_addresses.difference(&applied.node_addresses);
    ops.extend(new.map(|words| Op::AddNodeAddress(Address { words: *words })));
    let nothing = PodState::default();
    for (cookie, pod) in &wanted.pods {
        come(*cookie, applied.pods.get(cookie).unwrap_or(&nothing), pod, &mut ops);
    }
    ops
}

fn leave(cookie: u64, pod: &PodState, ops: &mut Vec<Op>) {
    ops.extend(pod.settings.map(|_| Op::Release(cookie)));
    ops.extend(pod.attached.then_some(Op::Detach(cookie)));
    listeners(cookie, pod.listeners, Listeners::default(), ops);
    ops.extend(pod.excluded.iter().copied().map(Op::Include));
    ops.extend(pod.counted.then_some(Op::Uncount(cookie)));
}

fn come(cookie: u64, has: &PodState, wants: &PodState, ops: &mut Vec<Op>) {
    ops.extend((!has.counted).then_some(Op::Count(cookie)));
    ops.extend(wants.excluded.difference(&has.excluded).copied().map(Op::Exclude));
    listeners(cookie, has.listeners, wants.listeners, ops);
    ops.extend((!has.attached).then_some(Op::Attach(cookie)));
    let settings = wants.settings.filter(|_| has.settings != wants.settings);
    ops.extend(settings.map(|flags| Op::Enrol(cookie, PodSettings { flags })));
    ops.extend(has.excluded.difference(&wants.excluded).copied().map(Op::Include));
}

fn listeners(cookie: u64, has: Listeners, wants: Listeners, ops: &mut Vec<Op>) {
    for (family, has, wants) in [(Family::V4, has.v4, wants.v4), (Family::V6, has.v6, wants.v6)] {
        match (has, wants) {
            (has, wants) if has == wants => {}
            (_, 0) => ops.push(Op::RemoveListener(cookie, family)),
            (_, wants) => ops.push(Op::SetListener(cookie, family, wants)),
        }
    }
}

impl State {
    /// Notes that an operation was done.
    pub(super) fn note(&mut self, op: &Op) {
        match op {
            Op::AddNodeAddress(address) => _ = self.node_addresses.insert(address.words),
            Op::RemoveNodeAddress(address) => _ = self.node_addresses.remove(&address.words),
            _ => self.note_pod(op),
        }
        if let Some(cookie) = op.pod().filter(|cookie| self.pods.get(cookie) == Some(&PodState::default())) {
            self.pods.remove(&cookie);
        }
    }

    fn note_pod(&mut self, op: &Op) {
        let Some(cookie) = op.pod() else { return };
        let pod = self.pods.entry(cookie).or_default();
        match op {
            Op::AddNodeAddress(_) | Op::RemoveNodeAddress(_) => {}
            Op::Count(_) => pod.counted = true,
            Op::Uncount(_) => pod.counted = false,
            Op::Exclude(port) => _ = pod.excluded.insert(*port),
            Op::Include(port) => _ = pod.excluded.remove(port),
            Op::SetListener(_, Family::V4, identity) => pod.listeners.v4 = *identity,
            Op::SetListener(_, Family::V6, identity) => pod.listeners.v6 = *identity,
            Op::RemoveListener(_, Family::V4) => pod.listeners.v4 = 0,
            Op::RemoveListener(_, Family::V6) => pod.listeners.v6 = 0,
            Op::Attach(_) => pod.attached = true,
            Op::Detach(_) => pod.attached = false,
            Op::Enrol(_, settings) => pod.settings = Some(settings.flags),
            Op::Release(_) => pod.settings = None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use agent_common::Direction;

    use super::*;

    fn port(port: u16) -> ExcludedPort {
        ExcludedPort::new(7, port, Direction::Outbound)
    }

    fn pod(flags: u32, ports: &[u16], listeners: Listeners) -> PodState {
        let excluded = ports.iter().copied().map(port).collect();
        PodState { counted: true, attached: true, settings: Some(flags), excluded, listeners }
    }

    fn state(pod: Option<PodState>) -> State {
        State { pods: pod.map(|pod| (7, pod)).into_iter().collect(), ..State::default() }
    }

    const BOTH: Listeners = Listeners { v4: 1, v6: 2 };

    #[test]
    fn operations_come_in_the_safe_order() {
        let settings = |flags| PodSettings { flags };
        let table = [
            (
                "a pod comes: switched on last",
                state(None),
                state(Some(pod(3, &[80], BOTH))),
                vec![
                    Op::Count(7),
                    Op::Exclude(port(80)),
                    Op::SetListener(7, Family::V4, 1),
                    Op::SetListener(7, Family::V6, 2),
                    Op::Attach(7),
                    Op::Enrol(7, settings(3)),
                ],
            ),
            (
                "a pod leaves: switched off first",
                state(Some(pod(3, &[80], BOTH))),
                state(None),
                vec![
                    Op::Release(7),
                    Op::Detach(7),
                    Op::RemoveListener(7, Family::V4),
                    Op::RemoveListener(7, Family::V6),
                    Op::Include(port(80)),
                    Op::Uncount(7),
                ],
            ),
            ("nothing to do", state(Some(pod(1, &[80], BOTH))), state(Some(pod(1, &[80], BOTH))), vec![]),
            (
                "taken over: only the listeners are gone",
                state(Some(pod(1, &[], Listeners::default()))),
                state(Some(pod(1, &[], BOTH))),
                vec![Op::SetListener(7, Family::V4, 1), Op::SetListener(7, Family::V6, 2)],
            ),
            (
                "other ports: new ones before the settings, old ones after",
                state(Some(pod(3, &[80], BOTH))),
                state(Some(pod(2, &[81], BOTH))),
                vec![Op::Exclude(port(81)), Op::Enrol(7, settings(2)), Op::Include(port(80))],
            ),
            (
                "half done: goes on where it stopped",
                state(Some(PodState { counted: true, ..PodState::default() })),
                state(Some(pod(0, &[], Listeners { v4: 1, v6: 0 }))),
                vec![Op::SetListener(7, Family::V4, 1), Op::Attach(7), Op::Enrol(7, settings(0))],
            ),
        ];
        for (what, applied, wanted, ops) in table {
            assert_eq!(plan(&applied, &wanted), ops, "{what}");
        }
    }

    #[test]
    fn noting_every_operation_reaches_what_was_wanted() {
        let address = |word| [0, 0, 0, word];
        let first =
            State { node_addresses: [address(1), address(2)].into(), ..state(Some(pod(3, &[80], BOTH))) };
        let second = State {
            pods: [(8, pod(1, &[], Listeners { v4: 5, v6: 0 }))].into(),
            node_addresses: [address(2), address(3)].into(),
        };
        let mut applied = State::default();
        for wanted in [&first, &second, &State::default()] {
            for op in plan(&applied, wanted) {
                applied.note(&op);
            }
            assert_eq!(&applied, wanted);
            assert_eq!(plan(&applied, wanted), vec![]);
        }
    }
}
