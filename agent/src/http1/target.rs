//! Request targets and hosts (RFC 9112 sections 3.2 and 3.3). Pure.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{
    Method, Uri,
    uri::{Authority, PathAndQuery},
};

/// A target in the form that is sent on to a server.
#[derive(Debug)]
pub(super) struct Target {
    /// Origin form, `*`, or authority form for CONNECT.
    pub(super) uri: Uri,
    /// The host of an absolute form: it overrides the `Host` field (section 3.2.2).
    pub(super) host: Option<Bytes>,
}

/// Reads a target. Refused are fragments, user information, and forms that do not belong to the method.
pub(super) fn parse(method: &Method, target: &Bytes) -> Result<Target, &'static str> {
    if memchr::memchr(b'#', target).is_some() {
        return Err("fragment in the request target");
    }
    if method == Method::CONNECT {
        return connect(target);
    }
    match target.first() {
        Some(b'/') => Ok(Target { uri: path(target.clone())?, host: None }),
        Some(b'*') if target.len() == 1 && method == Method::OPTIONS => {
            Ok(Target { uri: Uri::from(PathAndQuery::from_static("*")), host: None })
        }
        _ => absolute(method, target),
    }
}

fn path(bytes: Bytes) -> Result<Uri, &'static str> {
    PathAndQuery::from_maybe_shared(bytes).map(Uri::from).map_err(|_| "invalid request target")
}

fn connect(target: &Bytes) -> Result<Target, &'static str> {
    const INVALID: &str = "CONNECT without a host and port";
    if !is_host(target) {
        return Err(INVALID);
    }
    let authority = Authority::from_maybe_shared(target.clone()).map_err(|_| INVALID)?;
    if authority.port_u16().is_none() {
        return Err(INVALID);
    }
    Ok(Target { uri: Uri::from(authority), host: Some(target.clone()) })
}

fn absolute(method: &Method, target: &Bytes) -> Result<Target, &'static str> {
    const INVALID: &str = "invalid request target";
    let start = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        })
        .map(|scheme| scheme.len())
        .ok_or(INVALID)?;
    let rest = target.slice(start..);
    let end = memchr::memchr2(b'/', b'?', &rest).unwrap_or(rest.len());
    let host = rest.slice(..end);
    if !is_host(&host) {
        return Err("invalid host in the request target");
    }
    let uri = match rest.get(end) {
        Some(b'/') => path(rest.slice(end..))?,
        // `http://host?query` has an empty path, which is sent as `/`.
        Some(_) => path([b"/", rest.get(end..).unwrap_or_default()].concat().into())?,
        None if method == Method::OPTIONS => Uri::from(PathAndQuery::from_static("*")),
        None => Uri::from(PathAndQuery::from_static("/")),
    };
    Ok(Target { uri, host: Some(host) })
}

/// Whether this is a host with an optional port: a name, an IPv4 address, or an IPv6 address in brackets. Narrower than
/// RFC 3986: no user information, no percent encoding and no sub-delimiters, which hops read differently.
pub(crate) fn is_host(value: &[u8]) -> bool {
    if value.first() == Some(&b'[') {
        let Some(end) = memchr::memchr(b']', value) else { return false };
        let literal = value.get(1..end).and_then(|inner| std::str::from_utf8(inner).ok());
        return literal.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
            && is_port(value.get(end + 1..).unwrap_or_default());
    }
    let end = memchr::memchr(b':', value).unwrap_or(value.len());
    let (name, port) = value.split_at_checked(end).unwrap_or_default();
    !name.is_empty() && name.iter().all(|byte| is_unreserved(*byte)) && is_port(port)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Nothing, or a colon and a port; the port may be empty (RFC 3986 section 3.2.3).
fn is_port(value: &[u8]) -> bool {
    match value.split_first() {
        None => true,
        Some((b':', digits)) => {
            digits.iter().all(u8::is_ascii_digit)
                && digits.len() <= 5
                && digits.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
        }
        Some(_) => false,
    }
}
