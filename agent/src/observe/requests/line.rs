//! One request as one JSON line. Pure.
//!
//! Fields: `time` (RFC 3339, UTC, ms, the end), `event` (`request`), `connection` (its id), `request_id`, `trace_id`, `protocol`,
//! `method`, `authority`, `path` (with query, at most 2 KiB), `user_agent`, `status` (absent without answer), `grpc_status`, `flags`,
//! `duration_ms`, `first_byte_ms`, `request_bytes`, `response_bytes`, `source` and `destination` as for connections, `service`,
//! `port`, `route`, `endpoint`, `security`, `retries`, `hedges`, `limit` (that refused it or an attempt), `delayed_by` (the limit that it waited
//! for) with `delays` (how often), `budget_refused`; for a tap also `attempts`, `request_headers` and `response_headers`, whose values are
//! replaced but for those that were asked for.

use super::{AttemptOutcome, Finished, RequestProtocol};
use crate::{
    observe::{
        json,
        line::{Side, write_sides},
    },
    resilience::bulkhead::Bulkhead,
    snapshot::routes::RouteName,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::fmt;

/// Bytes of a path in a line.
const PATH: usize = 2048;
/// Stands for the value of a header that nobody asked for.
const REDACTED: &str = "[redacted]";

/// `Kind/namespace/name[rule]`, as people and metrics see it.
pub(crate) struct RouteText<'a>(pub(crate) &'a RouteName);

impl fmt::Display for RouteText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteName { kind, namespace, name, rule, .. } = self.0;
        write!(f, "{kind}/{namespace}/{name}[{rule}]")
    }
}

impl Finished {
    /// The line of the access log. `wall_offset_ns` turns agent time into nanoseconds since 1970.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>, wall_offset_ns: u64) {
        self.write_fields(out, wall_offset_ns);
        out.extend_from_slice(b"}\n");
    }

    /// The line for a tap that wants to see the values of `shown` headers.
    pub(crate) fn write_tap(&self, out: &mut Vec<u8>, wall_offset_ns: u64, shown: &[HeaderName]) {
        self.write_fields(out, wall_offset_ns);
        self.write_attempts(out);
        let details = &self.details;
        for (name, headers) in
            [("request_headers", &details.request_headers), ("response_headers", &details.response_headers)]
        {
            if let Some(headers) = headers {
                write_headers(out, name, headers, shown);
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_fields(&self, out: &mut Vec<u8>, wall_offset_ns: u64) {
        out.extend_from_slice(b"{\"time\":");
        json::time(out, self.finished_ns.saturating_add(wall_offset_ns));
        json::text_field(out, "event", "request");
        json::field(out, "connection");
        json::hexadecimal(out, self.details.connection_id.into(), 16);
        self.write_head(out);
        self.write_answer(out);
        let source = Side { pod: Some(&self.pod), proved: None, address: Some(self.details.client) };
        let destination = Side { pod: self.peer.as_deref(), proved: None, address: self.endpoint };
        write_sides(out, [source, destination]);
        if let Some(service) = &self.service {
            json::text_field(out, "service", &service.name.hostname);
            json::number_field(out, "port", service.port.into());
        }
        if let Some(route) = &self.route {
            json::text_field(out, "route", &RouteText(route).to_string());
        }
        json::text_field(out, "security", self.security.as_str());
        for (name, count) in [("retries", self.retries), ("hedges", self.hedges)] {
            if count > 0 {
                json::number_field(out, name, count.into());
            }
        }
        if let Some(limit) = self.limit {
            json::text_field(out, "limit", limit);
        }
        if self.put_off > 0 {
            json::text_field(out, "delayed_by", Bulkhead::Turn.as_str());
            json::number_field(out, "delays", self.put_off);
        }
        if self.budget_refused {
            out.extend_from_slice(b",\"budget_refused\":true");
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let details = &self.details;
        let head = HeadText {
            request_id: details.request_id.as_ref(),
            trace_id: details.trace.as_ref().map(|trace| trace.own.trace_id),
            protocol: self.protocol,
            method: &details.method,
            authority: details.authority(),
            uri: &details.uri,
            user_agent: details.user_agent.as_ref(),
        };
        write_head(out, &head);
    }

    fn write_answer(&self, out: &mut Vec<u8>) {
        if self.status != 0 {
            json::number_field(out, "status", self.status.into());
        }
        if let Some(status) = self.grpc {
            json::number_field(out, "grpc_status", status.into());
        }
        json::text_field(out, "flags", &self.flags.text());
        milliseconds(out, "duration_ms", self.took_ns());
        if let Some(after) = self.first_byte_after_ns() {
            milliseconds(out, "first_byte_ms", after);
        }
        json::number_field(out, "request_bytes", self.request_bytes);
        json::number_field(out, "response_bytes", self.response_bytes);
    }

    fn write_attempts(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"attempts\":[");
        for (place, attempt) in self.details.attempts.iter().enumerate() {
            out.extend_from_slice(if place > 0 { b",{\"endpoint\":" } else { b"{\"endpoint\":" });
            json::address(out, attempt.address);
            match attempt.outcome {
                AttemptOutcome::Status(status) => json::number_field(out, "status", status.into()),
                AttemptOutcome::Failed(why) => json::text_field(out, "failed", why),
            }
            milliseconds(out, "took_ms", attempt.took_ns);
            json::value_field(out, "hedge", &attempt.hedge);
            out.push(b'}');
        }
        out.push(b']');
    }
}

/// What lines say of the head of a request.
pub(super) struct HeadText<'head> {
    pub(super) request_id: Option<&'head HeaderValue>,
    pub(super) trace_id: Option<u128>,
    pub(super) protocol: RequestProtocol,
    pub(super) method: &'head Method,
    pub(super) authority: Option<&'head str>,
    pub(super) uri: &'head Uri,
    pub(super) user_agent: Option<&'head HeaderValue>,
}

pub(super) fn write_head(out: &mut Vec<u8>, head: &HeadText<'_>) {
    if let Some(id) = head.request_id {
        json::text_field(out, "request_id", &String::from_utf8_lossy(id.as_bytes()));
    }
    if let Some(trace_id) = head.trace_id {
        json::field(out, "trace_id");
        json::hexadecimal(out, trace_id, 32);
    }
    json::text_field(out, "protocol", head.protocol.as_str());
    json::text_field(out, "method", head.method.as_str());
    if let Some(authority) = head.authority {
        json::text_field(out, "authority", authority);
    }
    let path = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    json::text_field(out, "path", path.get(..path.floor_char_boundary(PATH)).unwrap_or_default());
    if let Some(agent) = head.user_agent {
        json::text_field(out, "user_agent", &String::from_utf8_lossy(agent.as_bytes()));
    }
}

/// Whole and thousandths.
fn milliseconds(out: &mut Vec<u8>, name: &str, nanoseconds: u64) {
    let micros = nanoseconds / 1000;
    json::number_field(out, name, micros / 1000);
    out.push(b'.');
    json::padded(out, micros % 1000, 3);
}

/// Each field line on its own, since a name may come more than once.
fn write_headers(out: &mut Vec<u8>, field: &str, headers: &HeaderMap, shown: &[HeaderName]) {
    json::field(out, field);
    out.push(b'[');
    for (place, (name, value)) in headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.push(b'[');
        json::text(out, name.as_str());
        out.push(b',');
        match shown.contains(name) {
            true => json::text(out, &String::from_utf8_lossy(value.as_bytes())),
            false => json::text(out, REDACTED),
        }
        out.push(b']');
    }
    out.push(b']');
}
