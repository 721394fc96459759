//! A request that was refused before it was one, because it is not unambiguous HTTP or did not come in time, as one JSON line. Pure.
//!
//! Fields: `time` (RFC 3339, UTC, ms), `event` (`malformed` or `refused`), `connection` (its id), `status` (the answer, where there was one), `flags` (`DPE`, or
//! `UO` with the `limit`), `what` (what was wrong, in the words of the metric), `source` as for requests. Nothing of what was sent is repeated: who
//! smuggles requests shall not write into logs.

use super::RequestFlag;
use crate::{
    observe::{
        json,
        line::{Side, write_sides},
    },
    snapshot::Workload,
};
use std::{net::SocketAddr, sync::Arc};

/// What was no request.
#[derive(Clone, Debug)]
pub struct RefusedRequest {
    /// [`crate::observe::Connection::id`] of the client's connection.
    pub connection_id: u64,
    /// The calling pod, unless it has left.
    pub pod: Option<Arc<Workload>>,
    /// The client's address.
    pub client: SocketAddr,
    /// What it was answered with; 0 where its connection was closed without an answer.
    pub status: u16,
    /// What was wrong, by a word of this program.
    pub what: &'static str,
    /// The limit that refused it; none where it is malformed.
    pub limit: Option<&'static str>,
    /// Agent time.
    pub at_ns: u64,
}

impl RefusedRequest {
    /// The line of the access log. `wall_offset_ns` turns agent time into nanoseconds since 1970.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>, wall_offset_ns: u64) {
        out.extend_from_slice(b"{\"time\":");
        json::time(out, self.at_ns.saturating_add(wall_offset_ns));
        let (event, flag) = match self.limit {
            None => ("malformed", RequestFlag::Malformed),
            Some(_) => ("refused", RequestFlag::Overflow),
        };
        json::text_field(out, "event", event);
        json::field(out, "connection");
        json::hexadecimal(out, self.connection_id.into(), 16);
        if self.status != 0 {
            json::number_field(out, "status", self.status.into());
        }
        json::text_field(out, "flags", flag.as_str());
        if let Some(limit) = self.limit {
            json::text_field(out, "limit", limit);
        }
        json::text_field(out, "what", self.what);
        let source = Side { pod: self.pod.as_deref(), proved: None, address: Some(self.client) };
        let destination = Side { pod: None, proved: None, address: None };
        write_sides(out, [source, destination]);
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    #[test]
    fn the_line_says_who_and_what() {
        let pod = crate::observe::tests::pod("web-1", "web");
        let mut out = Vec::new();
        super::super::tests::refused(&pod, "bare LF").write_line(&mut out, 0);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&line["event"], &line["status"], &line["flags"]),
            (&"malformed".into(), &400.into(), &"DPE".into())
        );
        assert_eq!((&line["what"], &line["source"]["pod"]), (&"bare LF".into(), &"web-1".into()));
        assert_eq!(line["time"], "1970-01-01T00:00:01.000Z");
        assert_eq!(line["limit"], serde_json::Value::Null);
    }

    #[test]
    fn a_limit_is_named() {
        let pod = crate::observe::tests::pod("web-1", "web");
        let mut out = Vec::new();
        let limit = Some("request_headers_timeout");
        super::RefusedRequest { status: 408, limit, ..super::super::tests::refused(&pod, "late") }
            .write_line(&mut out, 0);
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&line["event"], &line["status"]), (&"refused".into(), &408.into()));
        assert_eq!((&line["flags"], &line["limit"]), (&"UO".into(), &"request_headers_timeout".into()));
    }
}
