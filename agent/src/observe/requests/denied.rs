//! A request that policies of the called pod kept out, cut off or, on trial, would have kept out, as one JSON line. Pure.
//!
//! Fields: as far as they are known those of `line`, of the called side: `time`, `event` (`request`; `dry_run` where it was only a trial, and
//! was passed on), `direction` (`inbound`), `connection`, `status` (403; absent where it was cut off while it was under way),
//! `grpc_status`, `flags` (`DENY`), `policy` (the rule, or why there is none), `response_code_details` (Istio's
//! `rbac_access_denied_matched_policy[...]`), `source` and `destination`, `security`.

use super::{
    RequestFlag, RequestProtocol, TraceContext,
    line::{HeadText, write_head},
};
use crate::observe::{Direction, json, line::write_parties, row::Row};
use http::{HeaderMap, HeaderValue, Method, Uri, header, request::Parts};
use std::sync::Arc;

/// gRPC's PERMISSION_DENIED.
const PERMISSION_DENIED: u64 = 7;

/// What a line says of the head of a request, kept while it is under way.
#[derive(Clone, Debug)]
pub struct Heading {
    protocol: RequestProtocol,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    trace_id: Option<u128>,
}

/// What became of a request, or would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was answered so.
    Answered,
    /// It lost its right while it was under way.
    CutOff,
    /// Nothing: the policy is on trial.
    Trial,
}

/// A request with what a policy says of it.
#[derive(Clone, Debug)]
pub struct DeniedRequest<'a> {
    /// Its head.
    pub heading: &'a Heading,
    /// What became of it.
    pub refusal: Refusal,
    /// `AuthorizationPolicy namespace/name rules[N]`, or why none allows it.
    pub policy: &'a str,
    /// In the words of Istio, where it was denied.
    pub details: Option<Arc<str>>,
    /// Agent time.
    pub at_ns: u64,
}

impl Heading {
    /// Of a request that speaks `protocol`.
    #[must_use]
    pub fn of(head: &Parts, protocol: RequestProtocol) -> Self {
        let header = |name: &header::HeaderName| HeaderMap::get(&head.headers, name).cloned();
        Self {
            protocol,
            method: head.method.clone(),
            uri: head.uri.clone(),
            host: header(&header::HOST),
            user_agent: header(&header::USER_AGENT),
            request_id: header(&header::HeaderName::from_static("x-request-id")),
            trace_id: TraceContext::of(&head.headers).map(|context| context.trace_id),
        }
    }
}

impl DeniedRequest<'_> {
    /// The line of the access log. `wall_offset_ns` turns agent time into nanoseconds since 1970.
    pub(crate) fn write_line(&self, row: &Row, out: &mut Vec<u8>, wall_offset_ns: u64) {
        let heading = self.heading;
        out.extend_from_slice(b"{\"time\":");
        json::time(out, self.at_ns.saturating_add(wall_offset_ns));
        json::text_field(out, "event", if self.refusal == Refusal::Trial { "dry_run" } else { "request" });
        json::text_field(out, "direction", Direction::Inbound.as_str());
        json::field(out, "connection");
        json::hexadecimal(out, row.id.into(), 16);
        let host = || heading.host.as_ref().and_then(|host| host.to_str().ok());
        let head = HeadText {
            request_id: heading.request_id.as_ref(),
            trace_id: heading.trace_id,
            protocol: heading.protocol,
            method: &heading.method,
            authority: heading.uri.authority().map(http::uri::Authority::as_str).or_else(host),
            uri: &heading.uri,
            user_agent: heading.user_agent.as_ref(),
        };
        write_head(out, &head);
        if self.refusal != Refusal::CutOff {
            json::number_field(out, "status", 403);
            if heading.protocol == RequestProtocol::Grpc {
                json::number_field(out, "grpc_status", PERMISSION_DENIED);
            }
        }
        json::text_field(out, "flags", RequestFlag::Denied.as_str());
        json::text_field(out, "policy", self.policy);
        if let Some(details) = &self.details {
            json::text_field(out, "response_code_details", details);
        }
        let progress = row.progress();
        write_parties(out, row, &progress);
        json::text_field(out, "security", progress.security.as_str());
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::observe::tests::pod;

    #[test]
    fn the_line_says_what_who_and_by_which_policy() {
        let head =
            super::super::tests::head("GET", "/admin?x=1", &[("host", "cart"), ("user-agent", "curl")]);
        let client = "10.0.0.5:40000".parse().unwrap();
        let row = Row::new(0xff, Direction::Inbound, client, pod("cart-1", "cart"), 0);
        let table = [
            (RequestProtocol::Http1, Refusal::Answered, "request", 403.into(), serde_json::Value::Null),
            (RequestProtocol::Grpc, Refusal::Answered, "request", 403.into(), 7.into()),
            (
                RequestProtocol::Http2,
                Refusal::CutOff,
                "request",
                serde_json::Value::Null,
                serde_json::Value::Null,
            ),
            (RequestProtocol::Http1, Refusal::Trial, "dry_run", 403.into(), serde_json::Value::Null),
        ];
        for (protocol, refusal, event, status, grpc) in table {
            let heading = Heading::of(&head, protocol);
            let details = Some("rbac_access_denied_matched_policy[none]".into());
            let denied =
                DeniedRequest { heading: &heading, refusal, policy: "p", details, at_ns: 1_000_000_000 };
            let mut out = Vec::new();
            denied.write_line(&row, &mut out, 0);
            let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(
                [&line["event"], &line["status"], &line["grpc_status"]],
                [&event.into(), &status, &grpc],
                "{line}"
            );
            assert_eq!((&line["path"], &line["flags"]), (&"/admin?x=1".into(), &"DENY".into()));
            assert_eq!((&line["destination"]["pod"], &line["policy"]), (&"cart-1".into(), &"p".into()));
            assert_eq!(line["response_code_details"], "rbac_access_denied_matched_policy[none]");
            assert_eq!(line["source"]["address"], "10.0.0.5:40000");
        }
    }
}
