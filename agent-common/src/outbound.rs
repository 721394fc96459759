//! What happens to a `connect` of a process in an enrolled pod. Pure: facts in, verdict out; facts that cost a look-up are
//! functions, called only where they matter.

use crate::{Address, Counter, PodSettings};

/// `SOCK_STREAM`.
const STREAM: u32 = 1;
/// `SOCK_DGRAM`.
const DATAGRAM: u32 = 2;
/// `IPPROTO_TCP`.
const TCP: u32 = 6;
/// `IPPROTO_UDP`.
const UDP: u32 = 17;
/// Interface index of `lo` in every network namespace.
const LOOPBACK_DEVICE: u32 = 1;

/// A `connect`, as the hook sees it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Socket type (`SOCK_STREAM`, ...).
    pub kind: u32,
    /// Protocol number.
    pub protocol: u32,
    /// The socket's mark.
    pub mark: u32,
    /// The mark of the agent's own sockets; with the last bit the other way it is theirs too.
    pub agent_mark: u32,
    /// Interface the socket is bound to; 0 for none.
    pub device: u32,
    /// Where it wants to go.
    pub destination: Address,
}

impl Attempt {
    /// An ordinary TCP socket of an application, bound to no device and without a mark.
    pub const fn tcp(destination: Address, agent_mark: u32) -> Self {
        Self { kind: STREAM, protocol: TCP, mark: 0, agent_mark, device: 0, destination }
    }
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it go where it wants, uncounted.
    Pass,
    /// Let it go where it wants and count it.
    PassCounted(Counter),
    /// `connect` fails with `EPERM`; counted.
    Refuse(Counter),
    /// Send it to the agent.
    Capture,
}

/// Decides. `excluded`: the destination port is excluded for this pod. `alive`: an agent lives and listens in this
/// network namespace.
#[inline(always)]
pub fn decide(
    settings: PodSettings,
    attempt: &Attempt,
    excluded: impl FnOnce() -> bool,
    alive: impl FnOnce() -> bool,
) -> Verdict {
    if attempt.kind != STREAM {
        let udp = attempt.kind == DATAGRAM && attempt.protocol == UDP;
        return if udp { Verdict::PassCounted(Counter::UdpConnects) } else { Verdict::Pass };
    }
    if !leaves_pod(attempt) {
        return Verdict::Pass;
    }
    if settings.has(PodSettings::EXCLUDES_OUTBOUND) && excluded() {
        return Verdict::PassCounted(Counter::ExcludedOutbound);
    }
    let device = attempt.device;
    if attempt.protocol != TCP || (device != 0 && device != LOOPBACK_DEVICE) {
        return fail(settings, Counter::Uncapturable, Counter::Uncapturable);
    }
    if alive() {
        return Verdict::Capture;
    }
    fail(settings, Counter::RefusedOutbound, Counter::PassedOutbound)
}

/// Whether it is a stream of an application's own to somewhere else.
#[inline(always)]
pub fn leaves_pod(attempt: &Attempt) -> bool {
    // The agent owns two marks that differ in the last bit: one for what it dials, one for what it delivers, since the
    // routing rule for delivery must not catch the dials.
    attempt.kind == STREAM
        && attempt.mark | 1 != attempt.agent_mark | 1
        && !attempt.destination.is_loopback()
        && !attempt.destination.is_unspecified()
}

/// What happens where the destination found no room in a map: the fail mode decides, the counter says why.
#[inline(always)]
pub fn without_room(settings: PodSettings) -> Verdict {
    fail(settings, Counter::MapFull, Counter::MapFull)
}

#[inline(always)]
fn fail(settings: PodSettings, refused: Counter, passed: Counter) -> Verdict {
    if settings.has(PodSettings::FAIL_CLOSED) {
        Verdict::Refuse(refused)
    } else {
        Verdict::PassCounted(passed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::net::IpAddr;

    use super::*;

    const CLOSED: u32 = PodSettings::FAIL_CLOSED;
    const EXCLUDES: u32 = PodSettings::EXCLUDES_OUTBOUND;

    fn attempt(kind: u32, protocol: u32, mark: u32, device: u32, destination: &str) -> Attempt {
        let destination = destination.parse::<IpAddr>().unwrap().into();
        Attempt { kind, protocol, mark, agent_mark: 0x7068, device, destination }
    }

    #[test]
    fn verdicts() {
        use Counter::{ExcludedOutbound, PassedOutbound, RefusedOutbound, UdpConnects, Uncapturable};
        use Verdict::{Capture, Pass, PassCounted, Refuse};
        let tcp = |destination| attempt(1, 6, 0, 0, destination);
        // (what, flags, attempt, excluded, alive, verdict)
        let table = [
            ("captured", 0, tcp("10.0.0.1"), false, true, Capture),
            ("captured v6", CLOSED, tcp("fd00::1"), false, true, Capture),
            ("captured mapped", CLOSED, tcp("::ffff:10.0.0.1"), false, true, Capture),
            ("udp", CLOSED, attempt(2, 17, 0, 0, "10.0.0.1"), false, false, PassCounted(UdpConnects)),
            ("ping socket", CLOSED, attempt(2, 1, 0, 0, "10.0.0.1"), false, false, Pass),
            ("raw", CLOSED, attempt(3, 6, 0, 0, "10.0.0.1"), false, false, Pass),
            ("our own", CLOSED, attempt(1, 6, 0x7068, 0, "10.0.0.1"), false, true, Pass),
            ("our own delivery", CLOSED, attempt(1, 6, 0x7069, 0, "10.0.0.1"), false, true, Pass),
            ("another's mark", CLOSED, attempt(1, 6, 0x706a, 0, "10.0.0.1"), false, true, Capture),
            ("loopback", CLOSED, tcp("127.0.0.1"), false, false, Pass),
            ("loopback v6", CLOSED, tcp("::1"), false, false, Pass),
            ("loopback mapped", CLOSED, tcp("::ffff:127.8.0.1"), false, false, Pass),
            ("this host", CLOSED, tcp("0.0.0.0"), false, false, Pass),
            ("excluded", CLOSED | EXCLUDES, tcp("10.0.0.1"), true, true, PassCounted(ExcludedOutbound)),
            (
                "excluded, dead",
                CLOSED | EXCLUDES,
                tcp("10.0.0.1"),
                true,
                false,
                PassCounted(ExcludedOutbound),
            ),
            ("not excluded", CLOSED | EXCLUDES, tcp("10.0.0.1"), false, true, Capture),
            ("look-up spared", CLOSED, tcp("10.0.0.1"), true, true, Capture),
            ("mptcp closed", CLOSED, attempt(1, 262, 0, 0, "10.0.0.1"), false, true, Refuse(Uncapturable)),
            ("mptcp open", 0, attempt(1, 262, 0, 0, "10.0.0.1"), false, true, PassCounted(Uncapturable)),
            ("bound device", CLOSED, attempt(1, 6, 0, 7, "10.0.0.1"), false, true, Refuse(Uncapturable)),
            ("bound to lo", CLOSED, attempt(1, 6, 0, 1, "10.0.0.1"), false, true, Capture),
            ("dead closed", CLOSED, tcp("10.0.0.1"), false, false, Refuse(RefusedOutbound)),
            ("dead open", 0, tcp("10.0.0.1"), false, false, PassCounted(PassedOutbound)),
        ];
        for (what, flags, attempt, excluded, alive, verdict) in table {
            assert_eq!(decide(PodSettings { flags }, &attempt, || excluded, || alive), verdict, "{what}");
        }
    }

    #[test]
    fn a_full_map_follows_the_fail_mode() {
        let closed = PodSettings { flags: CLOSED };
        assert_eq!(without_room(closed), Verdict::Refuse(Counter::MapFull));
        assert_eq!(without_room(PodSettings::default()), Verdict::PassCounted(Counter::MapFull));
    }
}
