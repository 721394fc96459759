//! What the agent reads from a request's head, and what it writes into the head that goes on. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts};

use crate::resilience::deadline::{Deadline, grpc_timeout};

/// Envoy's name for the time that a callee has, in milliseconds; kept up to date with what is left of the deadline.
pub const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// gRPC's deadline.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// One name for one request on all its hops.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MILLISECOND: u64 = 1_000_000;

/// Whether the request is gRPC: its content type says so.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.strip_prefix(b"application/grpc").is_some_and(|rest| !rest.starts_with(b"-web"))
}

/// The time that the caller gives: `grpc-timeout`, or the deadline it inherited and passed on.
#[must_use]
pub fn deadline(headers: &HeaderMap, grpc: bool, now_ns: u64) -> Deadline {
    let mut deadline = Deadline::none();
    if grpc
        && let Some(ns) = headers.get(GRPC_TIMEOUT).and_then(|value| grpc_timeout::parse(value.as_bytes()))
    {
        deadline = Deadline::after(now_ns, ns);
    }
    match headers.get(EXPECTED_TIMEOUT).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()) {
        // Envoy's zero is "without end".
        None | Some(0) => deadline,
        Some(milliseconds) => {
            deadline.smallest(Deadline::after(now_ns, milliseconds.saturating_mul(MILLISECOND)))
        }
    }
}

/// Passes on what is left of the deadline.
pub fn pass_deadline(headers: &mut HeaderMap, deadline: Deadline, grpc: bool, now_ns: u64) {
    let Some(left) = deadline.remaining(now_ns) else { return };
    if grpc && let Ok(text) = HeaderValue::from_str(&grpc_timeout::format(left)) {
        headers.insert(GRPC_TIMEOUT, text);
    }
    headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(left.div_ceil(MILLISECOND).max(1)));
}

/// Whether the request may be repeated without asking (RFC 9110, section 9.2.2). gRPC methods are POSTs of unknown effect.
#[must_use]
pub fn is_idempotent(method: &Method, grpc: bool) -> bool {
    !grpc && crate::snapshot::routes::is_idempotent(method)
}

/// What tells that requests of different hops belong together, if the application passes it on: the trace id, and the request
/// id. Texts that would not fit a header of the tunnel are left out.
#[must_use]
pub fn correlations(headers: &HeaderMap) -> [Option<&str>; 2] {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let fits = |key: &&str| !key.is_empty() && key.len() <= 128 && !key.contains([';', ' ']);
    let trace = text("traceparent").and_then(|text| text.get(3..35)).filter(fits);
    [trace, text(REQUEST_ID.as_str()).filter(fits)]
}

/// Host of the request, as it was sent.
#[must_use]
pub fn authority(parts: &Parts) -> &str {
    let host = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(host).unwrap_or_default()
}

/// `http` unless the request says otherwise.
#[must_use]
pub fn scheme(parts: &Parts) -> &str {
    parts.uri.scheme_str().unwrap_or("http")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let table = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ];
        for (kind, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_grpc(&headers), expected, "{kind}");
        }
    }

    #[test]
    fn the_smallest_deadline_counts_and_is_passed_on() {
        let now = 1_000;
        let given = headers(&[("grpc-timeout", "2S"), ("x-envoy-expected-rq-timeout-ms", "500")]);
        let both = deadline(&given, true, now);
        assert_eq!(both.remaining(now), Some(500 * MILLISECOND));
        assert_eq!(deadline(&given, false, now).remaining(now), Some(500 * MILLISECOND));
        let only = headers(&[("grpc-timeout", "2S"), ("x-envoy-expected-rq-timeout-ms", "0")]);
        assert_eq!(deadline(&only, true, now).remaining(now), Some(2_000 * MILLISECOND));
        assert_eq!(deadline(&only, false, now).remaining(now), None);

        let mut passed = given;
        pass_deadline(&mut passed, both, true, now + 100 * MILLISECOND);
        assert_eq!(grpc_timeout::parse(passed["grpc-timeout"].as_bytes()), Some(400 * MILLISECOND));
        assert_eq!(passed["x-envoy-expected-rq-timeout-ms"], "400");
        let mut untouched = HeaderMap::new();
        pass_deadline(&mut untouched, Deadline::none(), true, now);
        assert!(untouched.is_empty());
    }

    #[test]
    fn requests_are_joined_by_trace_or_id() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let both = headers(&[("traceparent", trace), ("x-request-id", "abc")]);
        assert_eq!(correlations(&both), [Some("0af7651916cd43dd8448eb211c80319c"), Some("abc")]);
        assert_eq!(correlations(&headers(&[("x-request-id", "abc")])), [None, Some("abc")]);
        assert_eq!(correlations(&headers(&[("x-request-id", "a;b")])), [None, None]);
        assert_eq!(correlations(&headers(&[("traceparent", "short"), ("x-request-id", "")])), [None, None]);
    }
}
