//! Both ends of connections in one line: the records of the caller's and of the called pod's agent, joined by the id that they share.
//!
//! The agents are asked one by one, at `--admin-socket` and each `--peer-socket`: who may read the records of a node is decided by its
//! socket's file, and no agent has to tell another one what its pods do.

use super::{
    CliError, Options, client,
    connections::{self, both, party, short_service},
    table::{Column, Fit, WIDE, draw},
    units::{age, bytes, micros},
};
use crate::observe::{
    Direction,
    blame::{Share, shares},
    views::{ConnectionView, ConnectionsView},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// One connection as both of its agents tell of it, as far as they were asked.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Joined {
    /// 16 hexadecimal digits.
    pub(super) id: String,
    /// The calling pod's record.
    pub(super) caller: Option<ConnectionView>,
    /// The called pod's record.
    pub(super) called: Option<ConnectionView>,
    /// Who took how long until the first byte of the answer, the longest first.
    pub(super) shares: Vec<Share>,
}

/// Asks all agents for `target` of `/connections` and joins what they say, the newest first.
pub(super) fn ask(options: &Options, target: &str) -> Result<Vec<Joined>, CliError> {
    let mut records = Vec::new();
    for place in options.places() {
        let view: ConnectionsView = client::ask(&place, target)?;
        records.extend(view.connections);
    }
    Ok(join(records))
}

/// Tunnels that carry requests of several connections have the id of the first of them.
pub(super) fn join(records: Vec<ConnectionView>) -> Vec<Joined> {
    let mut found = BTreeMap::<String, Joined>::new();
    for record in records {
        let joined = found.entry(record.id.clone()).or_default();
        joined.id.clone_from(&record.id);
        let place = match record.direction {
            Direction::Outbound => &mut joined.caller,
            Direction::Inbound => &mut joined.called,
        };
        place.get_or_insert(record);
    }
    let mut all: Vec<Joined> = found.into_values().collect();
    for joined in &mut all {
        joined.shares =
            joined.caller.as_ref().map_or_else(Vec::new, |caller| shares(caller, joined.called.as_ref()));
    }
    all.sort_by_key(|joined| joined.first().map_or(0, |record| record.age_ms));
    all
}

impl Joined {
    /// The caller's record, else the called one's.
    pub(super) fn first(&self) -> Option<&ConnectionView> {
        self.caller.as_ref().or(self.called.as_ref())
    }
}

/// The table.
pub(super) fn text(all: &[Joined], fit: Fit) -> String {
    if all.is_empty() {
        return "no connections to show\n".to_owned();
    }
    let column = Column::new;
    let columns = [
        column("SOURCE", 0, 12),
        column("DESTINATION", 0, 12),
        column("SERVICE", 4, 12),
        column("STATE", 0, 6),
        column("ENDED-BY", 2, 6),
        column("RECEIVED", 5, 7),
        column("SENT", 5, 7),
        column("AGE", 3, 5),
        column("ANSWER", 1, 6),
        column("SLOWEST", 0, 11),
        column("RTT-CALLER", 6, 5),
        column("RTT-CALLED", 6, 5),
        column("ID", 7, 16),
        column("ENDPOINT", WIDE, 15),
        column("RETRANS", WIDE, 7),
        column("CALLED-STATE", WIDE, 6),
    ];
    draw(&columns, &all.iter().filter_map(row).collect::<Vec<_>>(), fit)
}

fn row(joined: &Joined) -> Option<Vec<String>> {
    let one = joined.first()?;
    let called = joined.called.as_ref();
    let dash = || "-".to_owned();
    let destination = called.map_or(&one.destination, |called| &called.destination);
    let rtt = |record: Option<&ConnectionView>| {
        record.map_or_else(dash, |record| {
            both([record.application_socket, record.network_socket], |info| micros(u64::from(info.srtt_us)))
        })
    };
    let retransmits = [joined.caller.as_ref(), called].map(|record| {
        record.map_or_else(dash, |record| {
            both([record.application_socket, record.network_socket], |info| info.retransmits.to_string())
        })
    });
    let slowest =
        joined.shares.first().map(|share| format!("{} {}", share.party.as_str(), micros(share.took_us)));
    Some(vec![
        party(&one.source),
        party(destination),
        one.service.as_deref().map_or_else(dash, short_service),
        state(one),
        one.ended_by.map_or_else(dash, |who| who.as_str().to_owned()),
        bytes(one.received_bytes),
        bytes(one.sent_bytes),
        age(one.age_ms),
        one.stages.answer_us.map_or_else(dash, micros),
        slowest.unwrap_or_else(dash),
        rtt(joined.caller.as_ref()),
        rtt(called),
        joined.id.clone(),
        one.endpoint.clone().unwrap_or_else(dash),
        retransmits.join(" "),
        called.map_or_else(dash, state),
    ])
}

fn state(record: &ConnectionView) -> String {
    record.reason.map_or_else(|| record.state.clone(), |reason| reason.to_string())
}

/// A past connection, told from its record: `posthaste explain --trace`.
pub(super) fn story(joined: &Joined) -> String {
    let mut text = format!("connection {}\n", joined.id);
    for (whose, record) in [("calling", &joined.caller), ("called", &joined.called)] {
        let Some(record) = record else {
            text.push_str(&format!(
                "\nno record of the {whose} pod's agent; name its socket with --peer-socket\n"
            ));
            continue;
        };
        text.push_str(&format!("\nthe {whose} pod's agent\n"));
        for (what, said) in connections::facts(record) {
            text.push_str(&format!("  {what:<12} {said}\n"));
        }
    }
    if !joined.shares.is_empty() {
        text.push_str("\nuntil the first byte of the answer\n");
        for share in &joined.shares {
            text.push_str(&format!("  {:<12} {}\n", share.party.as_str(), micros(share.took_us)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn record(id: &str, direction: &str, stages: &serde_json::Value) -> ConnectionView {
        let value = serde_json::json!({
            "id": id, "direction": direction, "state": "closed", "source": {"namespace": "shop", "pod": "a"},
            "destination": {"namespace": "shop", "pod": "b"}, "security": "mutual_tls", "sent_bytes": 10, "received_bytes": 20,
            "age_ms": 12, "attempts": 1, "stages": stages, "reason": "finished", "ended_by": "both",
            "network_socket": {"srtt_us": 250, "rttvar_us": 1, "retransmits": 2, "congestion_window": 10},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn both_ends_are_one_line() {
        let caller = serde_json::json!({"taken_us": 10, "routed_us": 20, "tunnel_us": 120, "request_us": 130, "answer_us": 9130});
        let called = serde_json::json!({"taken_us": 5, "routed_us": 10, "dialled_us": 40, "request_us": 60, "answer_us": 8060});
        let records = vec![
            record("01", "inbound", &called),
            record("01", "outbound", &caller),
            record("02", "inbound", &serde_json::json!({})),
        ];
        let joined = join(records);
        assert_eq!(joined.len(), 2);
        let text = text(&joined, Fit { width: None, wide: true });
        let line = text.lines().find(|line| line.contains(" 01 ")).unwrap();
        for part in ["shop/a", "shop/b", "finished", "both", "application 8.0ms", "-/250us", "9.1ms"] {
            assert!(line.contains(part), "{part}: {text}");
        }
        let story = story(&joined.iter().find(|one| one.id == "01").unwrap().clone());
        for part in
            ["the calling pod's agent", "the called pod's agent", "application  8.0ms", "ended", "both"]
        {
            assert!(story.contains(part), "{part}: {story}");
        }
    }
}
