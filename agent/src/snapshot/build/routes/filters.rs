//! Filters of rules and backends. Pure.
//!
//! Refuses what the specification refuses: filters that are not known or stand twice (but for RequestMirror), a redirect beside a
//! rewrite, two changes of one header. Refuses too what would break the message: changes of headers that frame it or belong to
//! one connection, and a `Host` taken away or doubled.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header, uri::Authority};

use super::{
    faults::Faults,
    matches::{header_name, path},
    references::References,
};
use crate::snapshot::{
    input::routes::{
        CorsFilter, Filter, HeaderFilter, MirrorFilter, NamedValue, PathModifier, RedirectFilter,
        RewriteFilter, RouteKind,
    },
    routes::{Cors, Filters, HeaderChanges, Mirror, PathChange, Redirect, Rewrite},
};

/// `maxAge` where absent, in seconds.
const CORS_SECONDS: u32 = 5;

/// Headers that belong to a connection or frame the message (RFC 9110, section 7.6.1; RFC 9112, section 6).
const NOT_TO_TOUCH: [HeaderName; 7] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Filters, and the redirect among them, which is what becomes of a request and not a change to it.
#[derive(Default)]
pub(super) struct Compiled {
    pub(super) filters: Filters,
    pub(super) redirect: Option<Redirect>,
}

/// Compiles the filters of a rule or a backend.
pub(super) fn compile(
    given: &[Filter],
    references: &References<'_>,
    ipv6: bool,
    faults: &mut Faults<'_>,
) -> Compiled {
    let mut compiled = Compiled::default();
    for (index, filter) in given.iter().enumerate() {
        let at = format!("filters[{index}]");
        let earlier = given.get(..index).unwrap_or_default();
        if filter.kind != "RequestMirror" && earlier.iter().any(|earlier| earlier.kind == filter.kind) {
            faults.add(&format!("{at}.type"), &format!("`{}` stands twice; leave one out", filter.kind));
        } else if let Err((field, reason)) = one(filter, references, ipv6, &at, faults, &mut compiled) {
            faults.add(&format!("{at}.{field}"), &reason);
        }
    }
    if compiled.redirect.is_some() && compiled.filters.rewrite.is_some() {
        faults.add("filters", "has both RequestRedirect and URLRewrite; leave one out");
    }
    compiled
}

/// Field below the filter, and what is wrong with it.
type Fault = (String, String);

fn one(
    given: &Filter,
    references: &References<'_>,
    ipv6: bool,
    at: &str,
    faults: &mut Faults<'_>,
    compiled: &mut Compiled,
) -> Result<(), Fault> {
    let filters = &mut compiled.filters;
    let kind = given.kind.as_str();
    let http_only = matches!(kind, "RequestRedirect" | "URLRewrite" | "CORS");
    if http_only && faults.route().kind == RouteKind::Grpc {
        return Err(("type".into(), format!("`{kind}` is not for a GRPCRoute; use an HTTPRoute")));
    }
    match kind {
        "RequestHeaderModifier" => {
            let part = body(&given.request_header_modifier, "requestHeaderModifier")?;
            filters.request_headers = headers(part).map_err(below("requestHeaderModifier"))?;
        }
        "ResponseHeaderModifier" => {
            let part = body(&given.response_header_modifier, "responseHeaderModifier")?;
            filters.response_headers = headers(part).map_err(below("responseHeaderModifier"))?;
        }
        "RequestMirror" => {
            let part = body(&given.request_mirror, "requestMirror")?;
            let (numerator, denominator) = share(part).map_err(below("requestMirror"))?;
            let port = references.resolve(faults.route(), &part.backend_ref, ipv6);
            let port = port.map_err(|(field, reason)| {
                faults.note(&format!("{at}.requestMirror.backendRef.{field}"), &reason);
                format!("{field} {reason}")
            });
            filters.mirrors.push(Mirror { port, denominator, numerator });
        }
        "RequestRedirect" => {
            let part = body(&given.request_redirect, "requestRedirect")?;
            compiled.redirect = Some(redirect(part).map_err(below("requestRedirect"))?);
        }
        "URLRewrite" => {
            let part = body(&given.url_rewrite, "urlRewrite")?;
            filters.rewrite = Some(rewrite(part).map_err(below("urlRewrite"))?);
        }
        "CORS" => {
            let part = body(&given.cors, "cors")?;
            filters.cors = Some(Box::new(cors(part).map_err(below("cors"))?));
        }
        "" => return Err(("type".into(), "is missing; name the filter, as `RequestHeaderModifier`".into())),
        other => {
            let shown: String = other.chars().take(60).collect();
            return Err((
                "type".into(),
                format!("`{shown}` is a filter that the mesh does not have; leave it out"),
            ));
        }
    }
    Ok(())
}

fn below(part: &'static str) -> impl Fn(Fault) -> Fault {
    move |(field, reason)| (format!("{part}.{field}"), reason)
}

/// The part that the type names.
fn body<'filter, T>(part: &'filter Option<T>, field: &str) -> Result<&'filter T, Fault> {
    part.as_ref().ok_or_else(|| (field.into(), "is missing; the type of the filter asks for it".into()))
}

fn headers(given: &HeaderFilter) -> Result<HeaderChanges, Fault> {
    let mut changes = HeaderChanges::default();
    let mut seen: Vec<HeaderName> = Vec::new();
    let mut name = |field: String, text: &str| {
        let name = header_name(text).map_err(|reason| (field.clone(), reason))?;
        let doubled = name == header::HOST && !field.starts_with("set");
        if NOT_TO_TOUCH.contains(&name) || doubled {
            let reason =
                format!("`{name}` holds the message together and cannot be changed so; leave it out");
            return Err((field, reason));
        }
        if seen.contains(&name) {
            return Err((field, format!("`{name}` is changed twice; change each header once")));
        }
        seen.push(name.clone());
        Ok(name)
    };
    let pair = |field: String, given: &NamedValue, name: HeaderName| {
        let value = HeaderValue::from_str(&given.value);
        let value =
            value.map_err(|_| (field, "is not a value of a header; use printable ASCII".to_owned()))?;
        match name == header::HOST && Authority::try_from(value.as_bytes()).is_err() {
            true => Err(("set".to_owned(), "gives a `Host` that is none".to_owned())),
            false => Ok((name, value)),
        }
    };
    for (index, header) in given.set.iter().enumerate() {
        let name = name(format!("set[{index}].name"), &header.name)?;
        changes.set.push(pair(format!("set[{index}].value"), header, name)?);
    }
    for (index, header) in given.add.iter().enumerate() {
        let name = name(format!("add[{index}].name"), &header.name)?;
        changes.add.push(pair(format!("add[{index}].value"), header, name)?);
    }
    for (index, text) in given.remove.iter().enumerate() {
        changes.remove.push(name(format!("remove[{index}]"), text)?);
    }
    Ok(changes)
}

/// Numerator and denominator.
fn share(given: &MirrorFilter) -> Result<(u32, u32), Fault> {
    let (numerator, denominator, field) = match (given.percent, &given.fraction) {
        (None, None) => (1, 1, "percent"),
        (Some(percent), None) => (percent, 100, "percent"),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator.unwrap_or(100), "fraction"),
        (Some(_), Some(_)) => {
            return Err(("fraction".into(), "stands beside `percent`; leave one out".into()));
        }
    };
    match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
            Ok((numerator, denominator))
        }
        _ => Err((field.into(), format!("{numerator} of {denominator} is not a share; use 0 to all of it"))),
    }
}

fn redirect(given: &RedirectFilter) -> Result<Redirect, Fault> {
    let scheme = match given.scheme.as_deref() {
        None | Some("") => None,
        Some(scheme @ ("http" | "https")) => Some(scheme.into()),
        Some(other) => {
            return Err(("scheme".into(), format!("`{other}` is not known; use `http` or `https`")));
        }
    };
    let port = given.port.map(|port| super::super::port(port).map_err(|reason| ("port".to_owned(), reason)));
    let status = given.status_code.unwrap_or(302);
    let known = matches!(status, 301 | 302 | 303 | 307 | 308);
    let code =
        u16::try_from(status).ok().filter(|_| known).and_then(|status| StatusCode::from_u16(status).ok());
    let reason =
        || ("statusCode".to_owned(), format!("{status} is no redirect; use 301, 302, 303, 307 or 308"));
    Ok(Redirect {
        scheme,
        hostname: hostname(given.hostname.as_deref())?.map(Into::into),
        path: path_change(given.path.as_ref())?,
        port: port.transpose()?,
        status: code.ok_or_else(reason)?,
    })
}

fn rewrite(given: &RewriteFilter) -> Result<Rewrite, Fault> {
    let host = hostname(given.hostname.as_deref())?.map(HeaderValue::from_str);
    let host = host.transpose().map_err(|_| ("hostname".to_owned(), "is not a host".to_owned()))?;
    Ok(Rewrite { hostname: host, path: path_change(given.path.as_ref())? })
}

/// A name without port and without wildcard (`PreciseHostname`).
fn hostname(given: Option<&str>) -> Result<Option<&str>, Fault> {
    let Some(host) = given.filter(|host| !host.is_empty()) else { return Ok(None) };
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let shown: String = host.chars().take(60).collect();
    match host.len() <= 253
        && host.bytes().all(allowed)
        && host.starts_with(|first: char| first != '.' && first != '-')
    {
        true => Ok(Some(host)),
        false => {
            Err(("hostname".into(), format!("`{shown}` is not a host; write it in lower case, without port")))
        }
    }
}

fn path_change(given: Option<&PathModifier>) -> Result<Option<PathChange>, Fault> {
    let Some(given) = given else { return Ok(None) };
    let checked = |field: &str, value: &Option<String>| {
        let reason = || (format!("path.{field}"), "is missing; the type asks for it".to_owned());
        let value = value.as_deref().ok_or_else(reason)?;
        match (field, value) {
            ("replacePrefixMatch", "") => Ok(value.into()),
            _ => path(value).map(|()| value.into()).map_err(|reason| (format!("path.{field}"), reason)),
        }
    };
    match given.kind.as_str() {
        "ReplaceFullPath" => {
            Ok(Some(PathChange::Full(checked("replaceFullPath", &given.replace_full_path)?)))
        }
        "ReplacePrefixMatch" => {
            Ok(Some(PathChange::Prefix(checked("replacePrefixMatch", &given.replace_prefix_match)?)))
        }
        other => {
            let reason = format!("`{other}` is not known; use `ReplaceFullPath` or `ReplacePrefixMatch`");
            Err(("path.type".into(), reason))
        }
    }
}

fn cors(given: &CorsFilter) -> Result<Cors, Fault> {
    let lists = [
        ("allowOrigins", &given.allow_origins),
        ("allowMethods", &given.allow_methods),
        ("allowHeaders", &given.allow_headers),
        ("exposeHeaders", &given.expose_headers),
    ];
    for (field, list) in lists {
        if list.len() > 1 && list.iter().any(|item| item == "*") {
            return Err((
                field.into(),
                "has `*` beside others, which it holds already; leave one out".into(),
            ));
        }
    }
    for (index, origin) in given.allow_origins.iter().enumerate() {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let starred = host.map(|host| host.strip_prefix('*').unwrap_or(host));
        if origin != "*" && starred.is_none_or(|host| host.contains(['*', '/', ' ']) || !host.is_ascii()) {
            let reason = format!(
                "`{origin}` is not an origin; write it as `https://www.example.com` or `https://*.example.com`"
            );
            return Err((format!("allowOrigins[{index}]"), reason));
        }
    }
    for (field, list) in lists.into_iter().skip(1) {
        for (index, word) in list.iter().enumerate() {
            if word != "*" && HeaderName::from_bytes(word.as_bytes()).is_err() {
                return Err((format!("{field}[{index}]"), format!("`{word}` is not a name")));
            }
        }
    }
    let max_age = given.max_age.unwrap_or(i64::from(CORS_SECONDS));
    let seconds = u32::try_from(max_age).ok().filter(|seconds| *seconds > 0);
    Ok(Cors {
        allow_origins: words(&given.allow_origins),
        allow_credentials: given.allow_credentials.unwrap_or(false),
        allow_methods: words(&given.allow_methods),
        allow_headers: words(&given.allow_headers),
        expose_headers: words(&given.expose_headers),
        max_age: seconds
            .ok_or_else(|| ("maxAge".to_owned(), format!("{max_age} is not a time; use seconds from 1")))?,
    })
}

fn words(given: &[String]) -> Vec<Arc<str>> {
    given.iter().map(|word| word.as_str().into()).collect()
}

/// Whether the prefix that matched is replaced.
pub(super) fn replaces_prefix(filters: &Filters, redirect: Option<&Redirect>) -> bool {
    let is_prefix = |path: &Option<PathChange>| matches!(path, Some(PathChange::Prefix(_)));
    filters.rewrite.as_ref().is_some_and(|rewrite| is_prefix(&rewrite.path))
        || redirect.is_some_and(|redirect| is_prefix(&redirect.path))
}

/// Whether filters of a backend ask to replace the prefix that matched.
pub(super) fn asks_for_prefix(filters: &[Filter]) -> bool {
    let path = |filter: &Filter| filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.clone());
    filters.iter().filter_map(path).any(|path| path.kind == "ReplacePrefixMatch")
}
