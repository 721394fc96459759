//! A request that was refused because it is not unambiguous HTTP, as one JSON line. Pure.
//!
//! Fields: `time` (RFC 3339, UTC, ms), `event` (`malformed`), `connection` (its id), `status` (the answer), `flags` (`DPE`), `what` (what
//! was wrong, in the words of the metric), `source` as for requests. Nothing of what was sent is repeated: who
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
    /// What it was answered with.
    pub status: u16,
    /// What was wrong, by a word of this program.
    pub what: &'static str,
    /// Agent time.
    pub at_ns: u64,
}

impl RefusedRequest {
    /// The line of the access log. `wall_offset_ns` turns agent time into nanoseconds since 1970.
    pub(crate) fn write_line(&self, out: &mut Vec<u8>, wall_offset_ns: u64) {
        out.extend_from_slice(b"{\"time\":");
        json::time(out, self.at_ns.saturating_add(wall_offset_ns));
        json::text_field(out, "event", "malformed");
        json::field(out, "connection");
        json::hexadecimal(out, self.connection_id.into(), 16);
        json::number_field(out, "status", self.status.into());
        json::text_field(out, "flags", RequestFlag::Malformed.as_str());
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
    }
}
