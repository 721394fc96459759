//! What a route's filters do to requests and answers (Gateway API, `HTTPRouteFilter`). Pure: chance is an argument.

mod cors;

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Response, Uri,
    header::{HOST, LOCATION},
    request, uri,
};

use crate::snapshot::{
    ServicePort,
    routes::{Filters, HeaderChanges, Mirror, PathChange, Redirect},
};

pub use cors::{preflight as cors_preflight, response as cors_response};

/// Changes a request on its way to a backend: headers, then host and path. `prefix` is [`crate::snapshot::routes::Choice::prefix`].
pub fn request(filters: &Filters, prefix: usize, parts: &mut request::Parts) {
    let changes = &filters.request_headers;
    change(changes, &mut parts.headers);
    if let Some((_, host)) = changes.set.iter().find(|(name, _)| name == HOST) {
        set_authority(parts, host);
    }
    let Some(rewrite) = &filters.rewrite else { return };
    if let Some(host) = &rewrite.hostname {
        set_authority(parts, host);
    }
    if let Some(path) = &rewrite.path {
        set_path(parts, &changed_path(path, prefix, parts.uri.path()));
    }
}

/// Changes the head of an answer on its way to the client.
pub fn response(filters: &Filters, headers: &mut HeaderMap) {
    change(&filters.response_headers, headers);
}

fn change(changes: &HeaderChanges, headers: &mut HeaderMap) {
    for name in &changes.remove {
        headers.remove(name);
    }
    let pairs = |list: &[(HeaderName, HeaderValue)]| list.to_vec();
    for (name, value) in pairs(&changes.set) {
        headers.insert(name, value);
    }
    for (name, value) in pairs(&changes.add) {
        headers.append(name, value);
    }
}

/// The answer of a `RequestRedirect`. `authority` is the request's host with its port, `scheme` that of the connection.
#[must_use]
pub fn redirect(
    redirect: &Redirect,
    prefix: usize,
    authority: &str,
    scheme: &str,
    uri: &Uri,
) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = redirect.status;
    if let Ok(location) = HeaderValue::from_str(&location(redirect, prefix, authority, scheme, uri)) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn location(redirect: &Redirect, prefix: usize, authority: &str, scheme: &str, uri: &Uri) -> String {
    let (host, port) = split_port(authority);
    let new_scheme = redirect.scheme.as_deref().unwrap_or(scheme);
    let host = redirect.hostname.as_deref().unwrap_or(host);
    // A new scheme comes with its own port, the old one with the port that was asked.
    let port = redirect.port.or(port.filter(|_| redirect.scheme.is_none()));
    let port = port.filter(|port| !matches!((new_scheme, port), ("http", 80) | ("https", 443)));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        Some(path) => changed_path(path, prefix, uri.path()),
        None => uri.path().to_owned(),
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{new_scheme}://{host}{port}{path}{query}")
}

/// Host (an IPv6 address in its brackets) and port of an authority.
fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && (!host.contains(':') || host.ends_with(']')) => {
            port.parse().map_or((authority, None), |port| (host, Some(port)))
        }
        _ => (authority, None),
    }
}

/// The path after a change, as the table of `HTTPPathModifier.replacePrefixMatch` has it.
fn changed_path(change: &PathChange, prefix: usize, path: &str) -> String {
    let whole = match change {
        PathChange::Full(path) => path.to_string(),
        PathChange::Prefix(replacement) => {
            let rest = path.get(prefix..).filter(|rest| rest.starts_with('/')).unwrap_or_default();
            format!("{}{rest}", replacement.trim_end_matches('/'))
        }
    };
    if whole.starts_with('/') { whole } else { format!("/{whole}") }
}

/// Gives a request another host, where it has one: in `Host` (HTTP/1.1) or `:authority` (HTTP/2).
fn set_authority(parts: &mut request::Parts, host: &HeaderValue) {
    let mut new = parts.uri.clone().into_parts();
    let in_uri = new.authority.is_some();
    if in_uri && let Ok(authority) = uri::Authority::try_from(host.as_bytes()) {
        new.authority = Some(authority);
        if let Ok(uri) = Uri::from_parts(new) {
            parts.uri = uri;
        }
    }
    if !in_uri || parts.headers.contains_key(HOST) {
        parts.headers.insert(HOST, host.clone());
    }
}

/// Gives a request another path; the query stays.
fn set_path(parts: &mut request::Parts, path: &str) {
    let whole = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut new = parts.uri.clone().into_parts();
    let Ok(path) = uri::PathAndQuery::try_from(whole) else { return };
    new.path_and_query = Some(path);
    if let Ok(uri) = Uri::from_parts(new) {
        parts.uri = uri;
    }
}

/// Where copies of this request go; each mirror draws for itself. A mirror that cannot be used copies nothing.
pub fn mirrors<'filters>(
    filters: &'filters Filters,
    random: &mut impl FnMut() -> u64,
) -> impl Iterator<Item = &'filters Arc<ServicePort>> {
    filters.mirrors.iter().filter_map(move |mirror| {
        let port = mirror.port.as_ref().ok()?;
        is_drawn(mirror, random()).then_some(port)
    })
}

fn is_drawn(mirror: &Mirror, random: u64) -> bool {
    let drawn = random.checked_rem(u64::from(mirror.denominator));
    drawn.is_some_and(|drawn| drawn < u64::from(mirror.numerator))
}

#[cfg(test)]
mod tests;
