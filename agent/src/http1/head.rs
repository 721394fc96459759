//! Heads of messages out of their bytes (RFC 9112 sections 2 to 5). Pure.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONTENT_LENGTH, HOST},
};
use httparse::{Header, ParserConfig, Request, Response};

use super::{
    BodyLength, HeadError, Limits, framing::Coding, framing::Framing, never_has_body, target, target::is_host,
};

/// The head of a request. Its target is in origin form (authority form for CONNECT, `*` for OPTIONS), its host in `Host`.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version and fields, all of them, hop-by-hop ones included.
    pub parts: http::request::Parts,
    /// Its body.
    pub body: BodyLength,
    /// Whether the client lets the connection serve another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the client asks for another protocol (`Connection: upgrade` and `Upgrade`). Never for h2c: requests in it
    /// would pass unseen, so that offer is ignored, as RFC 9110 section 7.8 allows.
    pub upgrade: bool,
}

/// The head of a response, final or interim.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, version and fields, all of them, hop-by-hop ones included.
    pub parts: http::response::Parts,
    /// Its body.
    pub body: BodyLength,
    /// Whether the connection can serve another request after the body.
    pub keep_alive: bool,
}

type Slots<'head> = [MaybeUninit<Header<'head>>; Limits::MOST_HEADERS];

/// A whole request head, its blank line included and already scanned for stray line ends.
pub(super) fn request(head: &Bytes, limits: &Limits) -> Result<RequestHead, HeadError> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
    let slots = slots.get_mut(..limits.headers.min(Limits::MOST_HEADERS)).unwrap_or_default();
    let mut parsed = Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, slots) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(bad("malformed head")),
        Err(error) => return Err(request_error(error, head)),
    }
    let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad("malformed head"));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("invalid method"))?;
    let target = target::parse(&method, &head.slice_ref(path.as_bytes())).map_err(bad)?;
    let (mut headers, framing) = fields(head, parsed.headers).map_err(bad)?;
    check_host(&headers, &framing, minor)?;
    if let Some(host) = target.host {
        let host = HeaderValue::from_maybe_shared(host).map_err(|_| bad("invalid Host"))?;
        headers.insert(HOST, host);
    }
    let body = request_body(&method, &framing, minor)?;
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = method;
    parts.uri = target.uri;
    parts.version = version(minor);
    parts.headers = headers;
    Ok(RequestHead {
        parts,
        body,
        keep_alive: framing.keeps_alive(minor),
        expects_continue: framing.continues
            && minor >= 1
            && !matches!(body, BodyLength::None | BodyLength::Exact(0)),
        upgrade: framing.upgrade && framing.connection_upgrade && !framing.offers_h2c && minor >= 1,
    })
}

/// A whole response head, its blank line included and already scanned for stray line ends.
pub(super) fn response(head: &Bytes, asked: &Method, limits: &Limits) -> Result<ResponseHead, HeadError> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; Limits::MOST_HEADERS];
    let slots = slots.get_mut(..limits.headers.min(Limits::MOST_HEADERS)).unwrap_or_default();
    let mut parsed = Response::new(&mut []);
    match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, slots) {
        Ok(httparse::Status::Complete(used)) if used == head.len() => {}
        Ok(_) => return Err(bad_answer("malformed head")),
        Err(error) => return Err(bad_answer(describe(error))),
    }
    let (Some(minor), Some(code)) = (parsed.version, parsed.code) else {
        return Err(bad_answer("malformed head"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| bad_answer("invalid status"))?;
    let (mut headers, framing) = fields(head, parsed.headers).map_err(bad_answer)?;
    let body = response_body(status, asked, &framing, minor)?;
    if is_bare(status, asked) {
        headers.remove(CONTENT_LENGTH);
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = status;
    parts.version = version(minor);
    parts.headers = headers;
    // A server that announces a body where none can be may well send it: what follows is not the next answer.
    let announces = is_bare(status, asked)
        && (framing.coding.is_some() || framing.length.is_some_and(|length| length > 0));
    let keep_alive = framing.keeps_alive(minor) && body != BodyLength::UntilClose && !announces;
    Ok(ResponseHead { parts, body, keep_alive })
}

/// Statuses that must not even carry a length (RFC 9110 sections 8.6 and 9.3.6).
fn is_bare(status: StatusCode, asked: &Method) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || (asked == Method::CONNECT && status.is_success())
}

fn fields(head: &Bytes, parsed: &[Header<'_>]) -> Result<(HeaderMap, Framing), &'static str> {
    let mut headers = HeaderMap::with_capacity(parsed.len());
    let mut framing = Framing::default();
    for field in parsed {
        framing.note(field.name.as_bytes(), field.value)?;
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "invalid header name")?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| "invalid header value")?;
        headers.try_append(name, value).map_err(|_| "too many headers")?;
    }
    if let (true, Some(length)) = (framing.length_repeated, framing.length) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok((headers, framing))
}

/// Exactly one valid `Host` in 1.1, at most one in 1.0 (RFC 9112 section 3.2).
fn check_host(headers: &HeaderMap, framing: &Framing, minor: u8) -> Result<(), HeadError> {
    match framing.hosts {
        0 if minor >= 1 => Err(bad("no Host")),
        0 => Ok(()),
        1 if headers.get(HOST).is_some_and(|host| is_host(host.as_bytes())) => Ok(()),
        1 => Err(bad("invalid Host")),
        _ => Err(bad("several Host")),
    }
}

fn request_body(method: &Method, framing: &Framing, minor: u8) -> Result<BodyLength, HeadError> {
    let body = match (framing.coding, framing.length) {
        (Some(_), Some(_)) => return Err(bad("both Transfer-Encoding and Content-Length")),
        (Some(_), None) if minor == 0 => return Err(bad("Transfer-Encoding in HTTP/1.0")),
        (Some(Coding::Chunked), None) => BodyLength::Chunked,
        (Some(Coding::Unknown), None) => return Err(HeadError::malformed(501, "unknown Transfer-Encoding")),
        (Some(Coding::Undelimited), None) => return Err(bad("Transfer-Encoding is not chunked")),
        (None, Some(length)) => BodyLength::Exact(length),
        (None, None) => BodyLength::None,
    };
    if method == Method::CONNECT && !matches!(body, BodyLength::None | BodyLength::Exact(0)) {
        return Err(bad("CONNECT with a body"));
    }
    Ok(body)
}

fn response_body(
    status: StatusCode,
    asked: &Method,
    framing: &Framing,
    minor: u8,
) -> Result<BodyLength, HeadError> {
    match (framing.coding, framing.length) {
        (Some(_), Some(_)) => Err(bad_answer("both Transfer-Encoding and Content-Length")),
        (Some(_), None) if minor == 0 => Err(bad_answer("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None) if coding != Coding::Chunked => Err(bad_answer("unknown Transfer-Encoding")),
        _ if never_has_body(status, asked) => Ok(BodyLength::None),
        (Some(_), None) => Ok(BodyLength::Chunked),
        (None, Some(length)) => Ok(BodyLength::Exact(length)),
        (None, None) => Ok(BodyLength::UntilClose),
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn bad(what: &'static str) -> HeadError {
    HeadError::malformed(400, what)
}

fn bad_answer(what: &'static str) -> HeadError {
    HeadError::malformed(502, what)
}

fn request_error(error: httparse::Error, head: &[u8]) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::malformed(431, "too many headers"),
        httparse::Error::Version if names_other_version(head) => {
            HeadError::malformed(505, "unknown HTTP version")
        }
        other => bad(describe(other)),
    }
}

/// Whether the first line ends in a well-formed version, so that it is not ours rather than not HTTP.
fn names_other_version(head: &[u8]) -> bool {
    let line = memchr::memchr(b'\r', head).and_then(|end| head.get(..end)).unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit() && !matches!((major, minor), (b'1', b'0' | b'1')))
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid header name",
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "malformed line end",
        httparse::Error::Status => "invalid status line",
        httparse::Error::Token => "invalid request line",
        httparse::Error::TooManyHeaders => "too many headers",
        httparse::Error::Version => "invalid HTTP version",
    }
}
