//! One connection as one JSON line, and as the view of the admin socket. Pure.
//!
//! Fields of a line: `time` (RFC 3339, UTC, ms), `event` (`open`, `close`), `id`, `direction`, `source` and `destination`
//! (`workload`, `pod`, `namespace`, `principal`, `address`; unknown ones absent), `service`, `protocol`, `protocol_why`, `server_name`, `policy`, `endpoint`, `security`, `attempts`,
//! `connect_ms`; at close also `duration_ms`, `sent_bytes` (server to client), `received_bytes`, `reason`, `ended_by`, `flag`,
//! `application_socket` and `network_socket` (`srtt_us`, `rttvar_us`, `retransmits`, `congestion_window`).

use super::{
    Direction,
    row::{Ending, Progress, Row},
    views::{ConnectionView, PartyView},
};
use crate::snapshot::{SpiffeId, Workload};
use std::{io::Write, net::SocketAddr};
use time::OffsetDateTime;

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
    out.extend_from_slice(b"{\"time\":\"");
    write_time(out, at_ns.saturating_add(wall_offset_ns));
    put(out, format_args!("\",\"event\":\"{word}\",\"id\":\"{:016x}\"", row.id));
    put(out, format_args!(",\"direction\":\"{}\"", row.direction.as_str()));
    write_parties(out, row, &progress);
    if let Some(service) = &progress.service {
        text_field(out, "service", &service.hostname);
    }
    if let Some((protocol, why)) = progress.spoken() {
        put(
            out,
            format_args!(",\"protocol\":\"{}\",\"protocol_why\":\"{}\"", protocol.as_str(), why.as_str()),
        );
    }
    if let Some(name) = &progress.server_name {
        text_field(out, "server_name", name);
    }
    if let Some(endpoint) = progress.endpoint {
        put(out, format_args!(",\"endpoint\":\"{endpoint}\""));
    }
    put(
        out,
        format_args!(",\"security\":\"{}\",\"attempts\":{}", progress.security.as_str(), progress.attempts),
    );
    if let Some(connect_ms) = connect_ms(row, &progress) {
        put(out, format_args!(",\"connect_ms\":{connect_ms}"));
    }
    if let Some(policy) = &progress.policy {
        text_field(out, "policy", policy);
    }
    if let (LineEvent::Close, Some(ending)) = (event, progress.ending.as_deref()) {
        write_ending(out, row, &progress, ending);
    }
    out.extend_from_slice(b"}\n");
}

fn write_ending(out: &mut Vec<u8>, row: &Row, progress: &Progress, ending: &Ending) {
    let (sent, received) = row.bytes();
    let duration = ending.closed_ns.saturating_sub(row.captured_ns) / 1_000_000;
    put(out, format_args!(",\"duration_ms\":{duration},\"sent_bytes\":{sent},\"received_bytes\":{received}"));
    put(out, format_args!(",\"reason\":\"{}\"", ending.reason.as_str()));
    if let Some(status) = ending.reason.status() {
        put(out, format_args!(",\"status\":{status}"));
    }
    json_field(out, "ended_by", &ending.reason.ended_by());
    put(out, format_args!(",\"flag\":\"{}\"", ending.reason.response_flag().as_str()));
    let pair = progress.socket_pair();
    for (name, info) in [("application_socket", pair.application), ("network_socket", pair.network)] {
        if let Some(info) = info {
            json_field(out, name, &info);
        }
    }
}

fn write_parties(out: &mut Vec<u8>, row: &Row, progress: &Progress) {
    let (source, destination) = sides(row, progress);
    write_sides(out, [source, destination]);
}

/// Who calls and who is called.
pub(super) fn write_sides(out: &mut Vec<u8>, sides: [Side<'_>; 2]) {
    for (name, side) in ["source", "destination"].into_iter().zip(sides) {
        put(out, format_args!(",\"{name}\":{{"));
        let start = out.len();
        for (field, value) in ["workload", "pod", "namespace", "principal"].into_iter().zip(side.names()) {
            let Some(value) = value else { continue };
            comma(out, start);
            put(out, format_args!("\"{field}\":"));
            write_text(out, value);
        }
        if let Some(address) = side.address {
            comma(out, start);
            put(out, format_args!("\"address\":\"{address}\""));
        }
        out.push(b'}');
    }
}

fn comma(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
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
        application_socket: sockets.application,
        network_socket: sockets.network,
        reason: ending.map(|ending| ending.reason),
        ended_by: ending.map(|ending| ending.reason.ended_by()),
        flag: ending.map(|ending| ending.reason.response_flag().as_str().to_owned()),
        policy: progress.policy.as_deref().map(ToString::to_string),
    }
}

pub(super) fn text_field(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, format_args!(",\"{name}\":"));
    write_text(out, value);
}

fn json_field<T: serde::Serialize>(out: &mut Vec<u8>, name: &str, value: &T) {
    put(out, format_args!(",\"{name}\":"));
    write_json(out, value);
}

/// `text` as a JSON string, escaped.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    write_json(out, text);
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing to a vector does not fail, and neither do the plain values that come here; `null` keeps the line well-formed.
    let before = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Writing to a vector does not fail.
pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn write_time(out: &mut Vec<u8>, since_1970_ns: u64) {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(since_1970_ns))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    put(
        out,
        format_args!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            moment.year(),
            u8::from(moment.month()),
            moment.day(),
            moment.hour(),
            moment.minute(),
            moment.second(),
            moment.millisecond()
        ),
    );
}
