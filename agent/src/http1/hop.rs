//! Fields that end at this hop (RFC 9110 section 7.6.1). Pure.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};

use super::framing::tokens;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes `Connection` and what it names, and the other fields that are meant for one hop. `TE: trailers` stays,
/// because the trailers do; so does `Trailer`, unless `Connection` names it. With `keep_upgrade`, `Upgrade` stays and the
/// writer adds `Connection: upgrade`. `Proxy-Authorization` and `Proxy-Authenticate` stay: we are no proxy that a client
/// knows of, and the one it means may be behind us. `Host` always stays: a client could else make the next hop guess.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, keep_upgrade: bool) {
    let trailers = takes_trailers(headers);
    let upgrade: Vec<HeaderValue> =
        if keep_upgrade { headers.get_all(UPGRADE).iter().cloned().collect() } else { Vec::new() };
    for named in named(headers) {
        headers.remove(named);
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    for value in upgrade {
        headers.append(UPGRADE, value);
    }
}

/// What `Connection` names, but not its own options and never `Host`.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| tokens(value.as_bytes()))
        .filter(|token| !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| name != HOST)
        .collect()
}

/// Whether the client takes trailers (RFC 9110 section 10.1.4).
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().flat_map(|value| tokens(value.as_bytes())).any(|token| {
        let coding = token.split(|byte| *byte == b';').next().unwrap_or_default();
        coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
    })
}
