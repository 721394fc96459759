//! One connection as one JSON line, and as the view of the admin socket. Pure.
//!
//! Fields of a line: `time` (RFC 3339, UTC, ms), `event` (`open`, not where requests have lines of their own; `close`), `id`, `direction`, `source` and `destination`
//! (`workload`, `pod`, `namespace`, `principal`, `address`; unknown ones absent), `service`, `protocol`, `protocol_why`, `server_name`, `policy`, `endpoint`, `security`, `attempts`,
//! `connect_ms`; at close also `duration_ms`, `sent_bytes` (server to client), `received_bytes`, `reason`, `limit` (that refused it), `ended_by`, `flag`, `connection_termination_details`
//! (of a denial, in Istio's words),
//! `stages` (microseconds after the arrival), `application_socket` and `network_socket` (`srtt_us`, `rttvar_us`, `retransmits`, `congestion_window`).

use super::{
    CloseReason, Direction, json,
    row::{Ending, Progress, Row},
    views::{ConnectionView, PartyView},
};
use crate::snapshot::{SpiffeId, Workload};
use std::net::SocketAddr;

/// Whether a line tells of the beginning or of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEvent {
    Open,
    Close,
}

/// Appends the line of `row` to `out`. `wall_offset_ns` turns agent time into nanoseconds since 1970.
pub(crate) fn write_line(out: &mut Vec<u8>, event: LineEvent, row: &Row, wall_offset_ns: u64) {
    let progress = row.progress();
    let (word, at_ns) = match (event, progress.ending.as_deref()) {
        (LineEvent::Close, Some(ending)) => ("close", ending.closed_ns),
        _ => ("open", progress.connected_ns),
    };
    out.extend_from_slice(b"{\"time\":");
    json::time(out, at_ns.saturating_add(wall_offset_ns));
    json::text_field(out, "event", word);
    json::field(out, "id");
    json::hexadecimal(out, row.id.into(), 16);
    json::text_field(out, "direction", row.direction.as_str());
    write_parties(out, row, &progress);
    if let Some(service) = &progress.service {
        json::text_field(out, "service", &service.hostname);
    }
    if let Some((protocol, why)) = progress.spoken() {
        json::text_field(out, "protocol", protocol.as_str());
        json::text_field(out, "protocol_why", why.as_str());
    }
    if let Some(name) = &progress.server_name {
        json::text_field(out, "server_name", name);
    }
    if let Some(endpoint) = progress.endpoint {
        json::field(out, "endpoint");
        json::address(out, endpoint);
    }
    json::text_field(out, "security", progress.security.as_str());
    json::number_field(out, "attempts", progress.attempts.into());
    if let Some(connect_ms) = connect_ms(row, &progress) {
        json::number_field(out, "connect_ms", connect_ms);
    }
    if let Some(said) = &progress.policy {
        json::text_field(out, "policy", &said.reason);
    }
    if let (LineEvent::Close, Some(ending)) = (event, progress.ending.as_deref()) {
        write_ending(out, row, &progress, ending);
    }
    out.extend_from_slice(b"}\n");
}

fn write_ending(out: &mut Vec<u8>, row: &Row, progress: &Progress, ending: &Ending) {
    let (sent, received) = row.bytes();
    let duration = ending.closed_ns.saturating_sub(row.captured_ns) / 1_000_000;
    for (name, count) in [("duration_ms", duration), ("sent_bytes", sent), ("received_bytes", received)] {
        json::number_field(out, name, count);
    }
    json::text_field(out, "reason", ending.reason.as_str());
    if let Some(limit) = ending.reason.limit() {
        json::text_field(out, "limit", limit);
    }
    if let Some(status) = ending.reason.status() {
        json::number_field(out, "status", status.into());
    }
    json::value_field(out, "ended_by", &ending.reason.ended_by());
    json::text_field(out, "flag", ending.reason.response_flag().as_str());
    let said = progress.policy.as_ref().filter(|_| ending.reason == CloseReason::PolicyDenied);
    if let Some(details) = said.and_then(|said| said.details.as_deref()) {
        json::text_field(out, "connection_termination_details", details);
    }
    row.stages.view().write_field(out, "stages");
    let pair = progress.socket_pair();
    for (name, info) in [("application_socket", pair.application), ("network_socket", pair.network)] {
        if let Some(info) = info {
            info.write_field(out, name);
        }
    }
}

pub(super) fn write_parties(out: &mut Vec<u8>, row: &Row, progress: &Progress) {
    let (source, destination) = sides(row, progress);
    write_sides(out, [source, destination]);
}

/// Who calls and who is called.
pub(super) fn write_sides(out: &mut Vec<u8>, sides: [Side<'_>; 2]) {
    for (name, side) in ["source", "destination"].into_iter().zip(sides) {
        json::object_field(out, name, |out| {
            for (field, value) in ["workload", "pod", "namespace", "principal"].into_iter().zip(side.names())
            {
                if let Some(value) = value {
                    json::text_field(out, field, value);
                }
            }
            if let Some(address) = side.address {
                json::field(out, "address");
                json::address(out, address);
            }
        });
    }
}

/// One side of a connection or of a request.
pub(super) struct Side<'row> {
    pub(super) pod: Option<&'row Workload>,
    pub(super) proved: Option<&'row SpiffeId>,
    pub(super) address: Option<SocketAddr>,
}

impl<'row> Side<'row> {
    /// Workload, pod, namespace and principal, as far as they are known.
    fn names(&self) -> [Option<&'row str>; 4] {
        let known = |text: &'row str| (!text.is_empty()).then_some(text);
        let principal = self.proved.or(self.pod.map(|pod| &pod.identity)).map(SpiffeId::as_str);
        let pod = self.pod;
        [
            pod.and_then(|pod| known(&pod.labels.workload)),
            pod.and_then(|pod| known(&pod.name)),
            pod.and_then(|pod| known(&pod.namespace)),
            principal,
        ]
    }

    fn view(&self) -> PartyView {
        let [workload, pod, namespace, principal] = self.names().map(|name| name.map(str::to_owned));
        PartyView { namespace, pod, workload, principal, address: self.address.map(|one| one.to_string()) }
    }
}

/// Who calls and who is called.
fn sides<'row>(row: &'row Row, progress: &'row Progress) -> (Side<'row>, Side<'row>) {
    let pod = (Some(&*row.pod), None);
    let peer = (progress.peer.as_deref(), progress.peer_identity.as_ref());
    let (source, destination) = match row.direction {
        Direction::Outbound => (pod, peer),
        Direction::Inbound => (peer, pod),
    };
    (
        Side { pod: source.0, proved: source.1, address: Some(row.client) },
        Side { pod: destination.0, proved: destination.1, address: progress.destination },
    )
}

fn connect_ms(row: &Row, progress: &Progress) -> Option<u64> {
    (progress.connected_ns != 0).then(|| progress.connected_ns.saturating_sub(row.captured_ns) / 1_000_000)
}

/// The view of a row at agent time `now_ns`.
pub(crate) fn view(row: &Row, now_ns: u64) -> ConnectionView {
    let progress = row.progress();
    let ending = progress.ending.as_deref().copied();
    let state = match (&ending, progress.connected_ns) {
        (Some(_), _) => "closed",
        (None, 0) => "connecting",
        (None, _) => "open",
    };
    let (source, destination) = sides(row, &progress);
    let (sent_bytes, received_bytes) = row.bytes();
    let sockets = progress.socket_pair();
    let until = ending.map_or(now_ns, |ending| ending.closed_ns);
    ConnectionView {
        id: format!("{:016x}", row.id),
        direction: row.direction,
        state: state.to_owned(),
        source: source.view(),
        destination: destination.view(),
        service: progress.service.as_ref().map(|service| service.hostname.to_string()),
        protocol: progress.spoken().map(|(protocol, _)| protocol),
        protocol_why: progress.spoken().map(|(_, why)| why),
        server_name: progress.server_name.as_deref().map(ToString::to_string),
        endpoint: progress.endpoint.map(|address| address.to_string()),
        security: progress.security,
        sent_bytes,
        received_bytes,
        age_ms: until.saturating_sub(row.captured_ns) / 1_000_000,
        attempts: progress.attempts,
        connect_ms: connect_ms(row, &progress),
        stages: row.stages.view(),
        application_socket: sockets.application,
        network_socket: sockets.network,
        reason: ending.map(|ending| ending.reason),
        ended_by: ending.map(|ending| ending.reason.ended_by()),
        flag: ending.map(|ending| ending.reason.response_flag().as_str().to_owned()),
        policy: progress.policy.as_deref().map(|said| said.reason.to_string()),
    }
}
