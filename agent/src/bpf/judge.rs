//! Pods that are not captured: what the connect hooks shall do with their connections until they are, by their control groups.
//! The plan is pure; the kernel's map is read each time, because the hooks enter pods that nobody has judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use agent_common::{Judging, NewFolder, Standing};

use super::{
    Capture, CaptureError,
    maps::{self, Plain},
};
use crate::{cgroup::APPEARS_NS, snapshot::Problem};

/// A pod that nobody knows and whose group was not seen by the last scan may have come after it: it is kept for so long.
const YOUNG_NS: u64 = 10_000_000_000;

/// What the agent knows of the groups of this node. By ids of cgroup v2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgements {
    /// A pod that nobody knows may be one of a strict namespace.
    pub has_strict: bool,
    /// When the groups were read, nanoseconds of `CLOCK_MONOTONIC`.
    pub read_ns: u64,
    /// Groups that hold pods.
    pub groups: BTreeSet<u64>,
    /// Pods that are known.
    pub pods: BTreeMap<u64, Judgement>,
    /// All pods that have a group, known or not. Of one that is not known any more the last judgement stays.
    pub present: BTreeSet<u64>,
}

/// What is known of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not of the mesh, or plain text is allowed.
    Free,
    /// Of the mesh, in a strict namespace: refused as long as its network namespace is not captured.
    Strict {
        /// Its namespace lets connections go while no agent lives.
        fail_open: bool,
    },
}

/// What happened to connections of a pod that was not captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldCounts {
    /// Refused.
    pub refused: u64,
    /// Let go although the pod was not judged, or while no agent lived.
    pub passed: u64,
    /// Nobody has judged the pod yet.
    pub is_unknown: bool,
}

/// One change of the map.
#[derive(Debug, PartialEq, Eq)]
enum Op {
    Set(u64, Standing),
    Remove(u64),
}

impl Capture {
    /// Makes the kernel follow; returns what was counted for each pod's group and, as group 0, for nobody's, and what found no room.
    pub fn judge(&mut self, wanted: &Judgements, now_ns: u64) -> (BTreeMap<u64, HeldCounts>, Vec<Problem>) {
        let current: BTreeMap<u64, Standing> =
            self.maps.cgroups.iter().filter_map(Result::ok).map(|(id, Plain(found))| (id, found)).collect();
        let failed = self.follow(&current, wanted, now_ns);
        let problems = failed.iter().map(problem).collect();
        let counts = |standing: &Standing| HeldCounts {
            refused: standing.refused,
            passed: standing.passed,
            is_unknown: standing.has(Standing::UNKNOWN),
        };
        let nowhere = (0, HeldCounts { refused: self.new_folder().refused, ..HeldCounts::default() });
        let held = current.iter().map(|(id, standing)| (*id, counts(standing)));
        (held.chain([nowhere]).collect(), problems)
    }

    /// Writes what differs; what could not be written.
    fn follow(
        &mut self,
        current: &BTreeMap<u64, Standing>,
        wanted: &Judgements,
        now_ns: u64,
    ) -> Vec<CaptureError> {
        let mut failed = Vec::new();
        for op in plan(current, wanted, now_ns) {
            failed.extend(self.change(&op).err());
        }
        let judging = Judging {
            has_strict: u64::from(wanted.has_strict),
            home: self.home,
            unknown_limit_ns: self.config.unknown_pod_limit.map_or(Judging::NO_LIMIT, nanoseconds),
            read_ns: wanted.read_ns.saturating_sub(APPEARS_NS),
        };
        failed.extend(
            self.maps.judging.set(0, Plain(judging), 0).map_err(CaptureError::map(maps::JUDGING)).err(),
        );
        failed
    }

    /// The same before any agent has judged; with `anywhere`, who is in no group of pods is held as if a folder of all pods had just been made.
    pub(super) fn hold(
        &mut self,
        wanted: &Judgements,
        anywhere: bool,
        now_ns: u64,
    ) -> Result<(), CaptureError> {
        if let Some(error) = self.follow(&BTreeMap::new(), wanted, now_ns).into_iter().next() {
            return Err(error);
        }
        if !anywhere {
            return Ok(());
        }
        let made = NewFolder { made_ns: now_ns, ..self.new_folder() };
        self.maps.new_folder.set(0, Plain(made), 0).map_err(CaptureError::map(maps::NEW_FOLDER))
    }

    /// When a folder of all pods was last made below the agent's root, nanoseconds of `CLOCK_MONOTONIC`; 0 where none was, or the
    /// kernel does not tell.
    pub fn folder_made_ns(&self) -> u64 {
        self.new_folder().made_ns
    }

    fn new_folder(&self) -> NewFolder {
        self.maps.new_folder.get(&0, 0).map_or_else(|_| NewFolder::default(), |Plain(folder)| folder)
    }

    fn change(&mut self, op: &Op) -> Result<(), CaptureError> {
        let map = &mut self.maps.cgroups;
        match op {
            Op::Set(id, standing) => {
                map.insert(*id, Plain(*standing), 0).map_err(CaptureError::map(maps::CGROUPS))
            }
            Op::Remove(id) => super::apply::removed(map.remove(id), maps::CGROUPS),
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(Judging::NO_LIMIT)
}

fn problem(error: &CaptureError) -> Problem {
    Problem {
        origin: "kernel".to_owned(),
        object: "Node".to_owned(),
        field: String::new(),
        reason: format!("{error}; connections of pods that find no room are refused; raise max_pods"),
    }
}

fn plan(current: &BTreeMap<u64, Standing>, wanted: &Judgements, now_ns: u64) -> Vec<Op> {
    let is_known = |id: &u64| wanted.groups.contains(id) || wanted.present.contains(id);
    let is_young = |standing: &Standing| {
        standing.has(Standing::UNKNOWN) && now_ns.saturating_sub(standing.seen_ns) < YOUNG_NS
    };
    // First, so that there is room.
    let gone = current.iter().filter(|(id, standing)| !is_known(id) && !is_young(standing));
    let mut ops: Vec<Op> = gone.map(|(id, _)| Op::Remove(*id)).collect();
    let groups = wanted.groups.iter().map(|id| (*id, Standing::HOLDS_PODS));
    let pods = wanted.pods.iter().map(|(id, judgement)| (*id, flags(*judgement)));
    let changed = groups
        .chain(pods)
        .filter(|(id, flags)| current.get(id).is_none_or(|standing| standing.flags != *flags))
        .map(|(id, flags)| {
            let before =
                current.get(&id).copied().unwrap_or(Standing { seen_ns: now_ns, ..Standing::default() });
            Op::Set(id, Standing { flags, ..before })
        });
    ops.extend(changed);
    ops
}

fn flags(judgement: Judgement) -> u32 {
    match judgement {
        Judgement::Free => 0,
        Judgement::Strict { fail_open: false } => Standing::STRICT,
        Judgement::Strict { fail_open: true } => Standing::STRICT | Standing::FAIL_OPEN,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const NOW: u64 = 100_000_000_000;

    fn standing(flags: u32, seen_ns: u64, refused: u64) -> Standing {
        Standing { flags, seen_ns, refused, ..Standing::default() }
    }

    fn wanted(pods: &[(u64, Judgement)]) -> Judgements {
        Judgements {
            read_ns: NOW,
            has_strict: true,
            groups: [1].into(),
            pods: pods.iter().copied().collect(),
            present: pods.iter().map(|(id, _)| *id).collect(),
        }
    }

    #[test]
    fn the_map_follows_and_counts_stay() {
        let strict = Judgement::Strict { fail_open: false };
        let mut current = BTreeMap::from([(7, standing(Standing::UNKNOWN, 5, 3)), (9, standing(0, 5, 0))]);
        let ops = plan(&current, &wanted(&[(7, strict), (8, Judgement::Free)]), NOW);
        let expected = [
            Op::Remove(9),
            Op::Set(1, standing(Standing::HOLDS_PODS, NOW, 0)),
            Op::Set(7, standing(Standing::STRICT, 5, 3)),
            Op::Set(8, standing(0, NOW, 0)),
        ];
        assert_eq!(ops, expected);
        current = BTreeMap::from([
            (1, standing(Standing::HOLDS_PODS, NOW, 0)),
            (7, standing(Standing::STRICT, 5, 3)),
            (8, standing(0, NOW, 0)),
        ]);
        assert_eq!(plan(&current, &wanted(&[(7, strict), (8, Judgement::Free)]), NOW), []);
        let open = Judgement::Strict { fail_open: true };
        assert_eq!(
            plan(&current, &wanted(&[(7, open), (8, Judgement::Free)]), NOW),
            [Op::Set(7, standing(Standing::STRICT | Standing::FAIL_OPEN, 5, 3))]
        );
    }

    #[test]
    fn a_strict_pod_stays_so_until_its_group_is_gone() {
        let current = BTreeMap::from([
            (1, standing(Standing::HOLDS_PODS, 0, 0)),
            (7, standing(Standing::STRICT, 5, 3)),
        ]);
        let forgotten = Judgements { present: [7].into(), ..wanted(&[]) };
        assert_eq!(plan(&current, &forgotten, NOW), []);
        assert_eq!(plan(&current, &wanted(&[]), NOW), [Op::Remove(7)]);
    }

    #[test]
    fn a_pod_that_the_hook_saw_before_the_scan_did_is_kept() {
        let of = |seen_ns| {
            BTreeMap::from([
                (1, standing(Standing::HOLDS_PODS, 0, 0)),
                (7, standing(Standing::UNKNOWN, seen_ns, 0)),
            ])
        };
        assert_eq!(plan(&of(NOW - 1), &wanted(&[]), NOW), []);
        assert_eq!(plan(&of(NOW - YOUNG_NS), &wanted(&[]), NOW), [Op::Remove(7)]);
    }
}
