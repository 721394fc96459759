//! Trailer sections (RFC 9110 section 6.5, RFC 9112 section 7.1.2). Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

/// Fields of one trailer section.
const MOST: usize = 64;

/// Fields that frame, route, authenticate or control a message: a recipient that merged them into the head would be
/// deceived (RFC 9110 section 6.5.1). Dropped; sorted.
const FORBIDDEN: [&str; 33] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-request-id",
];

/// A section with its blank line, scanned for stray line ends before.
pub(super) fn parse(section: &[u8]) -> Result<HeaderMap, &'static str> {
    let mut slots = [EMPTY_HEADER; MOST];
    let fields = match httparse::parse_headers(section, &mut slots) {
        Ok(Status::Complete((used, fields))) if used == section.len() => fields,
        Ok(_) | Err(httparse::Error::NewLine) => return Err("malformed trailers"),
        Err(httparse::Error::TooManyHeaders) => return Err("too many trailers"),
        Err(httparse::Error::HeaderValue) => return Err("invalid trailer value"),
        Err(_) => return Err("invalid trailer name"),
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "invalid trailer name")?;
        if is_forbidden(&name) {
            continue;
        }
        let value = HeaderValue::from_bytes(field.value).map_err(|_| "invalid trailer value")?;
        trailers.try_append(name, value).map_err(|_| "too many trailers")?;
    }
    Ok(trailers)
}

/// Whether a trailer of this name is not to be passed on.
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.binary_search(&name.as_str()).is_ok()
}

/// Trailers that came over HTTP/2, without those that are not to be passed on.
pub(crate) fn allowed(trailers: HeaderMap) -> HeaderMap {
    if !trailers.keys().any(is_forbidden) {
        return trailers;
    }
    let allowed = trailers.iter().filter(|(name, _)| !is_forbidden(name));
    allowed.map(|(name, value)| (name.clone(), value.clone())).collect()
}
