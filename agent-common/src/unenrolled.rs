//! What happens to a `connect` of a process whose network namespace is not captured: most are nobody's business, but a pod of a
//! strict namespace that is not captured yet must not send in plain text. Pure: facts in, verdict out.
//!
//! The hook finds the pod by the control groups above the process. A pod that is known to be strict is refused until it is captured.
//! A pod that no agent has judged yet may be one: it is refused until it is judged, where some namespace is strict at all. Only who
//! sets a limit lets it go when that is over, counted.

use crate::outbound::{Attempt, leaves_pod};

/// A control group that is a pod's, or holds pods. 4 + 4 + 8 + 8 + 8 = 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    /// Bits of the constants below; none for a pod that may do what it likes.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// When it was first seen, nanoseconds of `CLOCK_MONOTONIC`.
    pub seen_ns: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that were let go although the pod may be of the mesh.
    pub passed: u64,
}

/// What holds for all pods that are not captured. 8 + 8 + 8 + 8 = 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Judging {
    /// 0: no namespace is strict, and nothing is looked up.
    pub has_strict: u64,
    /// Network namespace cookie of the agent's own namespace, which is no pod's.
    pub home: u64,
    /// How long a pod that nobody has judged is refused after it was first seen, nanoseconds; [`Judging::NO_LIMIT`] for until it is
    /// judged.
    pub unknown_limit_ns: u64,
    /// All folders of pods that were made before are among the groups that the agent has told, nanoseconds of `CLOCK_MONOTONIC`.
    pub read_ns: u64,
}

/// Folders of all pods as they are made, told by the tracepoint: what is in one that the agent has not read yet is nowhere else to be
/// found. 8 + 8 = 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NewFolder {
    /// When the last one was made, nanoseconds of `CLOCK_MONOTONIC`; 0 where none was.
    pub made_ns: u64,
    /// Connections that were refused because a pod may be in it.
    pub refused: u64,
}

const _: () = assert!(size_of::<Standing>() == 4 + 4 + 8 + 8 + 8);
const _: () = assert!(size_of::<Judging>() == 8 + 8 + 8 + 8);
const _: () = assert!(size_of::<NewFolder>() == 8 + 8);

impl Judging {
    /// Longer than any machine runs.
    pub const NO_LIMIT: u64 = u64::MAX;
}

impl Standing {
    /// The group is no pod: those in it are, or hold pods in turn.
    pub const HOLDS_PODS: u32 = 1;
    /// No agent has judged the pod yet.
    pub const UNKNOWN: u32 = 2;
    /// The pod is of the mesh, in a strict namespace.
    pub const STRICT: u32 = 4;
    /// Its namespace lets connections go while no agent lives.
    pub const FAIL_OPEN: u32 = 8;

    /// Whether the bit is set.
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it go, uncounted.
    Pass,
    /// Let it go and count it.
    PassCounted,
    /// `connect` fails with `EPERM`; counted.
    Refuse,
}

/// Decides for a process of the pod, which was first seen `age_ns` ago. `alive`: the agent's heartbeat is fresh.
#[inline(always)]
pub fn decide(
    flags: u32,
    age_ns: u64,
    limit_ns: u64,
    attempt: &Attempt,
    alive: impl FnOnce() -> bool,
) -> Verdict {
    if !leaves_pod(attempt) {
        return Verdict::Pass;
    }
    if flags & Standing::STRICT != 0 {
        let is_open = flags & Standing::FAIL_OPEN != 0 && !alive();
        return if is_open { Verdict::PassCounted } else { Verdict::Refuse };
    }
    if flags & Standing::UNKNOWN != 0 {
        return if age_ns < limit_ns { Verdict::Refuse } else { Verdict::PassCounted };
    }
    Verdict::Pass
}

/// Decides for a process that is in no pod that is known, and in a network namespace that is not the node's. It may be of a pod in a
/// folder that was made at `made_ns` and that the agent, who has read all of before `read_ns`, does not know yet.
#[inline(always)]
pub fn decide_nowhere(
    made_ns: u64,
    read_ns: u64,
    now_ns: u64,
    limit_ns: u64,
    attempt: impl FnOnce() -> Attempt,
) -> Verdict {
    let is_unread = made_ns > read_ns && now_ns.saturating_sub(made_ns) < limit_ns;
    if is_unread && leaves_pod(&attempt()) { Verdict::Refuse } else { Verdict::Pass }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::net::IpAddr;

    use super::*;

    fn attempt(kind: u32, protocol: u32, mark: u32, destination: &str) -> Attempt {
        let destination = destination.parse::<IpAddr>().unwrap().into();
        Attempt { kind, protocol, mark, agent_mark: 0x7068, device: 0, destination }
    }

    #[test]
    fn verdicts() {
        use Verdict::{Pass, PassCounted, Refuse};
        const STRICT: u32 = Standing::STRICT;
        const OPEN: u32 = Standing::STRICT | Standing::FAIL_OPEN;
        const UNKNOWN: u32 = Standing::UNKNOWN;
        let tcp = attempt(1, 6, 0, "10.0.0.1");
        // (what, flags, age, attempt, alive, verdict); the limit is 100
        let table = [
            ("outside the mesh", 0, 0, tcp, true, Pass),
            ("strict", STRICT, 1_000, tcp, true, Refuse),
            ("strict v6", STRICT, 1_000, attempt(1, 6, 0, "fd00::1"), true, Refuse),
            ("strict, no agent", STRICT, 1_000, tcp, false, Refuse),
            ("strict, open, agent", OPEN, 1_000, tcp, true, Refuse),
            ("strict, open, no agent", OPEN, 1_000, tcp, false, PassCounted),
            ("strict, mptcp", STRICT, 0, attempt(1, 262, 0, "10.0.0.1"), true, Refuse),
            ("strict, udp", STRICT, 0, attempt(2, 17, 0, "10.0.0.1"), true, Pass),
            ("strict, loopback", STRICT, 0, attempt(1, 6, 0, "127.0.0.1"), true, Pass),
            ("strict, this host", STRICT, 0, attempt(1, 6, 0, "::"), true, Pass),
            ("strict, our own", STRICT, 0, attempt(1, 6, 0x7069, "10.0.0.1"), true, Pass),
            ("unknown, young", UNKNOWN, 99, tcp, true, Refuse),
            ("unknown, young, no agent", UNKNOWN, 99, tcp, false, Refuse),
            ("unknown, old", UNKNOWN, 100, tcp, true, PassCounted),
            ("unknown, udp", UNKNOWN, 0, attempt(2, 17, 0, "10.0.0.1"), true, Pass),
        ];
        for (what, flags, age, attempt, alive, verdict) in table {
            assert_eq!(decide(flags, age, 100, &attempt, || alive), verdict, "{what}");
        }
        assert_eq!(decide(UNKNOWN, 0, 0, &tcp, || true), PassCounted, "a limit of 0 lets them go");
        let century = 100 * 365 * 86_400 * 1_000_000_000;
        for alive in [true, false] {
            let verdict = decide(UNKNOWN, century, Judging::NO_LIMIT, &tcp, || alive);
            assert_eq!(verdict, Refuse, "no limit, alive: {alive}");
        }
    }
    #[test]
    fn a_folder_of_pods_that_nobody_has_read_holds_who_is_nowhere() {
        use Verdict::{Pass, Refuse};
        let (tcp, udp) = (attempt(1, 6, 0, "10.0.0.1"), attempt(2, 17, 0, "10.0.0.1"));
        // (what, made, read, now, attempt, verdict); the limit is 100
        let table = [
            ("none was made", 0, 0, 50, tcp, Pass),
            ("made and not read", 50, 40, 60, tcp, Refuse),
            ("udp", 50, 40, 60, udp, Pass),
            ("read since", 50, 50, 60, tcp, Pass),
            ("nobody reads", 50, 40, 150, tcp, Pass),
        ];
        for (what, made, read, now, attempt, verdict) in table {
            assert_eq!(decide_nowhere(made, read, now, 100, || attempt), verdict, "{what}");
        }
        assert_eq!(
            decide_nowhere(50, 40, 1 << 60, Judging::NO_LIMIT, || tcp),
            Refuse,
            "nobody reads, no limit"
        );
    }
}
