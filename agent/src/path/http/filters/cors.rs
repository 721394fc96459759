//! `CORS`: who may read an answer in a browser (Gateway API `HTTPCORSFilter`, GEP-1767; Fetch standard, section 3.2). Pure.
//!
//! The agent answers preflights itself. An origin that is not allowed gets no header, which is what makes a browser refuse.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
    request,
};

use crate::snapshot::routes::Cors;

/// The answer to a preflight; none where the request is none and goes to a backend.
#[must_use]
pub fn preflight(cors: &Cors, parts: &request::Parts) -> Option<Response<()>> {
    let origin = parts.headers.get(ORIGIN).filter(|_| parts.method == Method::OPTIONS)?;
    let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    if !allow_origin(cors, origin, headers) {
        return Some(answer);
    }
    let asked = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    list(cors, ACCESS_CONTROL_ALLOW_METHODS, &cors.allow_methods, Some(method), headers);
    list(cors, ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers, asked, headers);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age));
    Some(answer)
}

/// Says in an answer who may read it, instead of what the backend said.
pub fn response(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) {
    for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS]
    {
        headers.remove(name);
    }
    let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    let all = HeaderValue::from_str(&names.join(", ")).ok();
    if allow_origin(cors, origin, headers) {
        list(cors, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.expose_headers, all.as_ref(), headers);
    }
}

/// Whether the origin is allowed; if so, says it.
fn allow_origin(cors: &Cors, origin: &HeaderValue, headers: &mut HeaderMap) -> bool {
    let any = cors.allow_origins.iter().any(|allowed| **allowed == *"*");
    let shown = match any && !cors.allow_credentials {
        true => HeaderValue::from_static("*"),
        false => {
            // The answer differs by origin, also to those that are not allowed.
            headers.append(VARY, HeaderValue::from_static("origin"));
            origin.clone()
        }
    };
    let is_allowed = |given: &str| cors.allow_origins.iter().any(|allowed| origin_matches(allowed, given));
    if !any && !origin.to_str().is_ok_and(is_allowed) {
        return false;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
    if cors.allow_credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

/// A list as it is; `*` as what was asked for where the answer may hold credentials, to which `*` means nothing.
fn list(
    cors: &Cors,
    name: HeaderName,
    allowed: &[std::sync::Arc<str>],
    asked: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    let all = allowed.iter().any(|item| **item == *"*");
    let value = match (all, cors.allow_credentials) {
        (true, false) => Some(HeaderValue::from_static("*")),
        (true, true) => asked.cloned(),
        (false, _) if allowed.is_empty() => None,
        (false, _) => {
            let items: Vec<&str> = allowed.iter().map(|item| &**item).collect();
            HeaderValue::from_str(&items.join(", ")).ok()
        }
    };
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}

/// `scheme://host[:port]`; a `*` in the allowed host stands for any number of labels to its left.
fn origin_matches(allowed: &str, given: &str) -> bool {
    let (Some(allowed), Some(given)) = (parts(allowed), parts(given)) else { return allowed == given };
    let host = match allowed.1.strip_prefix('*') {
        Some(end) => {
            let (host, end) = (given.1.to_ascii_lowercase(), end.to_ascii_lowercase());
            host.len() > end.len() && host.ends_with(&end)
        }
        None => allowed.1.eq_ignore_ascii_case(given.1),
    };
    host && allowed.0.eq_ignore_ascii_case(given.0) && allowed.2 == given.2
}

/// Scheme, host and port of an origin.
fn parts(origin: &str) -> Option<(&str, &str, u16)> {
    let (scheme, rest) = origin.split_once("://")?;
    let (host, port) = match super::split_port(rest) {
        (host, Some(port)) => (host, port),
        (host, None) if scheme.eq_ignore_ascii_case("https") => (host, 443),
        (host, None) => (host, 80),
    };
    Some((scheme, host, port))
}
