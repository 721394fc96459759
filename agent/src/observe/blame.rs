//! Whose fault it is that a call was slow: the time from the connection's arrival to the first byte of the answer, shared out by the
//! records of both agents. Pure.
//!
//! ```text
//! caller's record   taken  routed   (request)   dialled  tls   tunnel            answer
//!                   |queue |own     |application|network       |  |              |
//! called's record                                              taken dialled  request answer
//!                                                              |peer |application|    |application
//! ```

use serde::{Deserialize, Serialize};

use super::{Stages, views::ConnectionView};

/// Who took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The calling application: it said nothing for a while.
    Caller,
    /// The calling pod's agent: its queue, and routing.
    ProxyQueue,
    /// Between the nodes: dial, TLS, round trips.
    Network,
    /// The called pod's agent: its queue, and routing, and until it saw what had arrived. Everything behind the tunnel where its record is
    /// not known.
    Peer,
    /// The called application: until it accepted, and until it answered.
    Application,
}

impl Party {
    /// The word for tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::ProxyQueue => "proxy queue",
            Self::Network => "network",
            Self::Peer => "peer",
            Self::Application => "application",
        }
    }
}

/// How long a party took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Who.
    pub party: Party,
    /// Microseconds.
    pub took_us: u64,
}

/// The shares, the largest first, without those that took nothing. Of a call without an answer, until it ended.
#[must_use]
pub fn shares(caller: &ConnectionView, called: Option<&ConnectionView>) -> Vec<Share> {
    let Stages { taken_us, routed_us, dialled_us, tls_us, tunnel_us, request_us, answer_us } = caller.stages;
    let ended = (caller.state == "closed").then_some(caller.age_ms * 1000);
    let routed = routed_us.max(taken_us).unwrap_or(0);
    let reached = tunnel_us.or(tls_us).or(dialled_us);
    let end = answer_us.or(ended).or(reached).unwrap_or(routed);
    let mut sum = Sum::default();
    sum.add(Party::ProxyQueue, routed);
    // Where a request was waited for before anything was dialled, that was the caller's time.
    let silent_before = request_us.filter(|request| reached.is_none_or(|reached| *request < reached));
    let start = silent_before.unwrap_or(routed).max(routed);
    sum.add(Party::Caller, start - routed);
    let stood = tls_us.or(dialled_us).unwrap_or(start).max(start);
    // The kernel of the other node accepts by itself; the handshake above it needs its agent.
    let accepted = dialled_us.unwrap_or(stood).clamp(start, stood);
    sum.add(Party::Network, accepted - start);
    sum.between(stood - accepted, caller);
    let opened = tunnel_us.unwrap_or(stood).max(stood);
    let their = called.map(|record| record.stages).unwrap_or_default();
    let (their_routed, their_dialled) =
        (their.routed_us.or(their.taken_us).unwrap_or(0), their.dialled_us.or(their.tunnel_us).unwrap_or(0));
    let opening = opened - stood;
    let accepting = their_dialled.saturating_sub(their_routed);
    match called {
        Some(_) => {
            sum.add(Party::Peer, their_routed.min(opening));
            sum.add(Party::Application, accepting.min(opening.saturating_sub(their_routed)));
            sum.between(opening.saturating_sub(their_routed + accepting), caller);
        }
        None => sum.add(Party::Peer, opening),
    }
    let asked = request_us.unwrap_or(opened).max(opened).min(end.max(opened));
    sum.add(Party::Caller, asked - opened);
    let waiting = end.saturating_sub(asked);
    match (called, their.request_us, their.answer_us) {
        (Some(_), Some(request), Some(answer)) => {
            let thinking = answer.saturating_sub(request).min(waiting);
            sum.add(Party::Application, thinking);
            sum.between(waiting - thinking, caller);
        }
        // It got the request and has not answered.
        (Some(_), Some(_), None) => sum.add(Party::Application, waiting),
        (Some(_), None, _) => sum.between(waiting, caller),
        (None, ..) => sum.add(Party::Peer, waiting),
    }
    sum.sorted()
}

/// So long the way there and back may take by the kernel's own measure, microseconds: a round trip with its variation, and the time-out
/// before each segment that was sent again (RFC 6298; Linux waits no less than 200 ms, and twice as long each time).
fn explained(caller: &ConnectionView) -> Option<u64> {
    let info = caller.network_socket?;
    let trip = u64::from(info.srtt_us) + 4 * u64::from(info.rttvar_us);
    Some(trip + trip.max(200_000) * ((1 << info.retransmits.min(6)) - 1))
}

#[derive(Default)]
struct Sum([u64; 5]);

impl Sum {
    fn add(&mut self, party: Party, took_us: u64) {
        if let Some(sum) = self.0.get_mut(party as usize) {
            *sum += took_us;
        }
    }

    /// Neither agent's record has it. As long as the kernel's round trips explain was on the way; the rest was spent before the called
    /// agent saw what the kernel had for it.
    fn between(&mut self, took_us: u64, caller: &ConnectionView) {
        let on_the_way = explained(caller).map_or(took_us, |explained| explained.min(took_us));
        self.add(Party::Network, on_the_way);
        self.add(Party::Peer, took_us - on_the_way);
    }

    fn sorted(self) -> Vec<Share> {
        let all = [Party::Caller, Party::ProxyQueue, Party::Network, Party::Peer, Party::Application];
        let shares = all.into_iter().zip(self.0).map(|(party, took_us)| Share { party, took_us });
        let mut shares: Vec<Share> = shares.filter(|share| share.took_us > 0).collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.took_us));
        shares
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn record(stages: [u64; 7], state: &str, age_ms: u64) -> ConnectionView {
        let [taken, routed, dialled, tls, tunnel, request, answer] = stages.map(|us| (us != 0).then_some(us));
        let value = serde_json::json!({
            "id": "0", "direction": "outbound", "state": state, "source": {}, "destination": {}, "security": "mutual_tls",
            "sent_bytes": 0, "received_bytes": 0, "age_ms": age_ms, "attempts": 1,
            "stages": Stages {
                taken_us: taken, routed_us: routed, dialled_us: dialled, tls_us: tls,
                tunnel_us: tunnel, request_us: request, answer_us: answer,
            },
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn each_party_can_be_to_blame() {
        use Party::{Application, Caller, Network, Peer, ProxyQueue};
        // (caller's, called's, who took how long, the longest first)
        type Row = ([u64; 7], Option<[u64; 7]>, &'static [(Party, u64)]);
        let table: [Row; 8] = [
            // A thoughtful application.
            (
                [10, 20, 0, 0, 120, 130, 9130],
                Some([5, 10, 40, 0, 0, 60, 8060]),
                &[(Application, 8030), (Network, 1060), (ProxyQueue, 20), (Caller, 10), (Peer, 10)],
            ),
            // An application that accepts late.
            (
                [10, 20, 0, 0, 5020, 5020, 5100],
                Some([5, 10, 4910, 0, 0, 4920, 4940]),
                &[(Application, 4920), (Network, 150), (ProxyQueue, 20), (Peer, 10)],
            ),
            // The agent has a queue.
            (
                [7000, 7010, 0, 0, 7100, 7100, 7200],
                Some([5, 10, 40, 0, 0, 50, 60]),
                &[(ProxyQueue, 7010), (Network, 140), (Application, 40), (Peer, 10)],
            ),
            // So has the other agent.
            (
                [10, 20, 0, 0, 3120, 3120, 3200],
                Some([3000, 3010, 3040, 0, 0, 3050, 3060]),
                &[(Peer, 3010), (Network, 130), (Application, 40), (ProxyQueue, 20)],
            ),
            // A long way.
            (
                [10, 20, 30_020, 90_020, 120_100, 120_100, 150_200],
                Some([5, 10, 40, 0, 0, 60, 90]),
                &[(Network, 150_110), (Application, 60), (ProxyQueue, 20), (Peer, 10)],
            ),
            // A client that connects and thinks.
            (
                [10, 20, 0, 0, 120, 9120, 9220],
                Some([5, 10, 40, 0, 0, 9060, 9080]),
                &[(Caller, 9000), (Network, 140), (Application, 50), (ProxyQueue, 20), (Peer, 10)],
            ),
            // The same where requests are waited for.
            (
                [10, 20, 0, 0, 9120, 9020, 9220],
                Some([5, 10, 40, 0, 0, 50, 70]),
                &[(Caller, 9000), (Network, 140), (Application, 50), (ProxyQueue, 20), (Peer, 10)],
            ),
            // The other record is not known.
            ([10, 20, 0, 0, 120, 130, 9130], None, &[(Peer, 9100), (ProxyQueue, 20), (Caller, 10)]),
        ];
        for (caller, called, wanted) in table {
            let called = called.map(|stages| record(stages, "open", 100));
            let shares = shares(&record(caller, "open", 100), called.as_ref());
            let found: Vec<_> = shares.iter().map(|share| (share.party, share.took_us)).collect();
            assert_eq!(found, wanted, "{caller:?}");
            assert_eq!(shares.iter().map(|share| share.took_us).sum::<u64>(), caller[6], "{caller:?}");
        }
    }

    #[test]
    fn what_round_trips_do_not_explain_is_the_peers() {
        use crate::observe::TcpInfo;
        let called = record([5, 10, 40, 0, 0, 60, 90], "open", 1000);
        // Round trip, its variation, segments sent again; what the network and the peer took.
        let table = [
            (Some((100, 50, 0)), (620, 899_410)),
            (Some((2_000_000, 0, 0)), (900_020, 10)),
            (Some((100, 50, 1)), (400_620, 499_410)),
            (None, (900_020, 10)),
        ];
        for (kernel, (network, peer)) in table {
            let mut caller = record([10, 20, 30, 40, 500_080, 500_080, 900_110], "open", 1000);
            caller.network_socket = kernel.map(|(srtt_us, rttvar_us, retransmits)| TcpInfo {
                srtt_us,
                rttvar_us,
                retransmits,
                ..TcpInfo::default()
            });
            let shares = shares(&caller, Some(&called));
            let of =
                |party| shares.iter().find(|share| share.party == party).map_or(0, |share| share.took_us);
            assert_eq!((of(Party::Network), of(Party::Peer)), (network, peer), "{kernel:?}: {shares:?}");
        }
    }

    #[test]
    fn what_was_never_answered_is_blamed_until_its_end() {
        let called = record([5, 10, 40, 0, 0, 60, 0], "closed", 30_000);
        let shares = shares(&record([10, 20, 0, 0, 120, 130, 0], "closed", 30_000), Some(&called));
        assert_eq!(shares[0], Share { party: Party::Application, took_us: 30_000_000 - 130 + 30 });
    }
}
