//! Who may read the dashboard: the method, the host, the site that asks and the token of a request. Pure.
//!
//! The token stands behind the `#` of the address that is printed, so that no browser sends it, logs it or hands it on; the page
//! keeps it for its tab and sends it as `Authorization: Bearer`. A cookie would do worse: cookies know no ports, and every other
//! program that listens at this loopback address would be sent it. The page itself holds nothing of the mesh and needs no token.

use hyper::{HeaderMap, Method, StatusCode, Uri, header};

/// Names of this machine's loopback. Whoever resolves a name of his own to it (DNS rebinding) sends that name. Ports are free, so
/// that `ssh -L` may bring another one.
const HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It would change something, if anything could be.
    Method,
    /// It was meant for another host.
    Host,
    /// A page of another site asks.
    Site,
    /// No token, or a wrong one.
    Token,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Site => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    /// What to do.
    pub(super) fn says(self) -> &'static str {
        match self {
            Self::Method => "the dashboard is read-only: only GET and HEAD\n",
            Self::Host => "the dashboard answers to 127.0.0.1, localhost and [::1] only\n",
            Self::Site => "the dashboard answers its own page only\n",
            Self::Token => "open the address that `posthaste dashboard` printed: it has the token\n",
        }
    }
}

/// Whether anybody on this machine may have the page that this asks for.
///
/// # Errors
/// The first reason against it.
pub(super) fn page(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    if !only(headers, header::HOST).is_some_and(is_ours) || uri.host().is_some_and(|host| !is_ours(host)) {
        return Err(Refusal::Host);
    }
    Ok(())
}

/// Whether this may have what the mesh says.
///
/// # Errors
/// The first reason against it.
pub(super) fn data(method: &Method, uri: &Uri, headers: &HeaderMap, token: &str) -> Result<(), Refusal> {
    page(method, uri, headers)?;
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Err(Refusal::Site);
    }
    let given = only(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if given.is_some_and(|given| is_same(given.as_bytes(), token.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::Token)
    }
}

/// A header that is there once, as text.
fn only(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// `host` or `host:port` of our own.
fn is_ours(host: &str) -> bool {
    HOSTS.iter().any(|name| {
        let rest = host.get(..name.len()).filter(|own| own.eq_ignore_ascii_case(name));
        match rest.and_then(|_| host.get(name.len()..)) {
            Some("") => true,
            Some(rest) => rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()),
            None => false,
        }
    })
}

/// In a time that tells only the length, which is no secret.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |differs, (one, other)| differs | (one ^ other));
    std::hint::black_box(differs) == 0 && given.len() == token.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const BEARER: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn nothing_but_reading() {
        let host = headers(&[("host", "127.0.0.1:1")]);
        for (method, expected) in [
            (Method::GET, Ok(())),
            (Method::HEAD, Ok(())),
            (Method::POST, Err(Refusal::Method)),
            (Method::PUT, Err(Refusal::Method)),
            (Method::DELETE, Err(Refusal::Method)),
            (Method::OPTIONS, Err(Refusal::Method)),
            (Method::CONNECT, Err(Refusal::Method)),
            (Method::from_bytes(b"BREW").unwrap(), Err(Refusal::Method)),
        ] {
            assert_eq!(page(&method, &Uri::from_static("/"), &host), expected, "{method}");
        }
    }

    #[test]
    fn no_host_but_ours() {
        for (host, expected) in [
            ("127.0.0.1:8000", true),
            ("127.0.0.1", true),
            ("localhost:1", true),
            ("LocalHost:65535", true),
            ("[::1]:8000", true),
            ("[::1]", true),
            ("", false),
            ("127.0.0.1:65536", false),
            ("127.0.0.1:", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("localhost.evil.example:80", false),
            ("evil.example", false),
            ("evil.example:8000", false),
            ("0.0.0.0:8000", false),
            ("127.0.0.2:8000", false),
            ("::1", false),
            ("lo", false),
        ] {
            let given = page(&Method::GET, &Uri::from_static("/"), &headers(&[("host", host)]));
            assert_eq!(given, if expected { Ok(()) } else { Err(Refusal::Host) }, "{host}");
        }
        let twice = headers(&[("host", "127.0.0.1"), ("host", "127.0.0.1")]);
        for (uri, headers) in [
            ("/", HeaderMap::new()),
            ("/", twice),
            ("http://evil.example/", headers(&[("host", "127.0.0.1")])),
        ] {
            let refused = page(&Method::GET, &Uri::from_static(uri), &headers);
            assert_eq!(refused, Err(Refusal::Host), "{uri} {headers:?}");
        }
        let absolute = Uri::from_static("http://127.0.0.1:1/");
        assert_eq!(page(&Method::GET, &absolute, &headers(&[("host", "127.0.0.1:1")])), Ok(()));
    }

    #[test]
    fn no_data_without_the_token() {
        let host = ("host", "127.0.0.1:8000");
        for (more, expected) in [
            (vec![BEARER], Ok(())),
            (vec![BEARER, ("sec-fetch-site", "same-origin")], Ok(())),
            (vec![BEARER, ("sec-fetch-site", "none")], Ok(())),
            (vec![BEARER, ("sec-fetch-site", "cross-site")], Err(Refusal::Site)),
            (vec![BEARER, ("sec-fetch-site", "same-site")], Err(Refusal::Site)),
            (vec![], Err(Refusal::Token)),
            (vec![BEARER, BEARER], Err(Refusal::Token)),
            (vec![("authorization", "Bearer 0123456789abcdeF")], Err(Refusal::Token)),
            (vec![("authorization", "Bearer 0123456789abcde")], Err(Refusal::Token)),
            (vec![("authorization", "Bearer 0123456789abcdef0")], Err(Refusal::Token)),
            (vec![("authorization", "Bearer ")], Err(Refusal::Token)),
            (vec![("authorization", "Basic 0123456789abcdef")], Err(Refusal::Token)),
            (vec![("authorization", "0123456789abcdef")], Err(Refusal::Token)),
            (vec![("cookie", "token=0123456789abcdef")], Err(Refusal::Token)),
        ] {
            let given = headers(&[vec![host], more.clone()].concat());
            assert_eq!(
                data(&Method::GET, &Uri::from_static("/api/state"), &given, TOKEN),
                expected,
                "{more:?}"
            );
        }
        let foreign = headers(&[("host", "evil.example"), BEARER]);
        assert_eq!(data(&Method::GET, &Uri::from_static("/"), &foreign, TOKEN), Err(Refusal::Host));
        assert_eq!(data(&Method::POST, &Uri::from_static("/"), &foreign, TOKEN), Err(Refusal::Method));
        // In the address it counts for nothing: it would be logged there.
        let uri = Uri::from_static("/api/state?token=0123456789abcdef");
        assert_eq!(data(&Method::GET, &uri, &headers(&[host]), TOKEN), Err(Refusal::Token));
    }
}
