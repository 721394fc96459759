//! Answers that the agent gives itself, in the terms of the caller: HTTP or gRPC. Pure.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::body::Body;
use crate::observe::requests::RequestFlag;

/// Says that the agent answered, and why, in Envoy's short codes.
pub const FLAG_HEADER: HeaderName = HeaderName::from_static("x-posthaste-flag");

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// HTTP status; gRPC callers get it translated.
    pub status: StatusCode,
    /// Why, in Envoy's short codes.
    pub flag: RequestFlag,
    /// What happened and what to do, one line.
    pub text: String,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u32>,
}

impl Local {
    /// An answer without advice when to come back.
    pub fn new(status: StatusCode, flag: RequestFlag, text: impl Into<String>) -> Self {
        Self { status, flag, text: text.into(), retry_after: None }
    }

    /// The answer as the caller understands it.
    #[must_use]
    pub fn response(&self, grpc: bool) -> Response<Body> {
        let mut response = if grpc { self.grpc() } else { self.http() };
        let headers = response.headers_mut();
        headers.insert(FLAG_HEADER, HeaderValue::from_static(self.flag.as_str()));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    fn http(&self) -> Response<Body> {
        let mut text = self.text.clone();
        text.push('\n');
        let mut response = Response::new(Body::Whole(Bytes::from(text)));
        *response.status_mut() = self.status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }

    /// Trailers-only (gRPC over HTTP/2, "Responses").
    fn grpc(&self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        *response.headers_mut() = self.trailers();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    /// What ends a gRPC call whose answer has begun.
    pub(super) fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_STATUS, grpc_status_of(self.status).into());
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.text)) {
            trailers.insert(HeaderName::from_static("grpc-message"), message);
        }
        trailers
    }
}

/// The header or trailer that ends a gRPC call.
pub const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// gRPC status code for an HTTP status (gRPC's "HTTP to gRPC Status Code Mapping"; 504 is our own deadline, 413 a message that is too
/// long, for which gRPC has RESOURCE_EXHAUSTED).
#[must_use]
pub fn grpc_status_of(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        504 => 4,
        413 => 8,
        429 | 502 | 503 => 14,
        _ => 2,
    }
}

/// The gRPC status in headers or trailers, 0 to 16; other numbers are UNKNOWN.
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    let text = headers.get(GRPC_STATUS)?.to_str().ok()?;
    Some(text.parse::<u8>().ok().filter(|code| *code <= 16).unwrap_or(2))
}

/// `grpc-message` is percent-encoded outside of printable ASCII.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn callers_are_answered_in_their_own_terms() {
        let local = Local {
            retry_after: Some(3),
            ..Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::Overflow, "full: 100 % – später")
        };
        let http = local.response(false);
        assert_eq!(http.status(), 503);
        assert_eq!(http.headers()["retry-after"], "3");
        assert_eq!(http.headers()["x-posthaste-flag"], "UO");
        assert!(http.body().remaining() > Some(10));
        let grpc = local.response(true);
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "14");
        assert_eq!(grpc.headers()["grpc-message"], "full: 100 %25 %E2%80%93 sp%C3%A4ter");
        assert!(grpc.body().is_end());
        assert_eq!(grpc_status(grpc.headers()), Some(14));
    }

    #[test]
    fn odd_status_codes_are_unknown() {
        let mut headers = HeaderMap::new();
        assert_eq!(grpc_status(&headers), None);
        for (text, code) in [("0", 0), ("16", 16), ("17", 2), ("999", 2), ("x", 2)] {
            headers.insert(GRPC_STATUS, HeaderValue::from_static(text));
            assert_eq!(grpc_status(&headers), Some(code), "{text}");
        }
        assert_eq!(grpc_status_of(StatusCode::GATEWAY_TIMEOUT), 4);
        assert_eq!(grpc_status_of(StatusCode::PAYLOAD_TOO_LARGE), 8, "RESOURCE_EXHAUSTED");
    }
}
