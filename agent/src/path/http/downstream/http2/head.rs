//! A request's head as HTTP/2 says it, brought into the form that requests have between both sides (RFC 9113, section 8.3.1).
//! Pure.
//!
//! `h2` has reset the stream already where fields are connection-specific (`te` other than `trailers` included), a pseudo-header
//! is missing, repeated, unknown or behind a field, a name is not in lower case, or `content-length` is not one number. What
//! it lets pass and the next hop might read otherwise is refused here.

use http::{
    HeaderMap, HeaderValue, Method, Uri,
    header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST},
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use crate::http1::{HeadError, Limits, hop::strip_hop_by_hop, is_host};

/// What a head says about its body and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// Of `content-length`.
    pub(super) length: Option<u64>,
    /// `expect: 100-continue`.
    pub(super) expects_continue: bool,
    /// CONNECT.
    pub(super) connects: bool,
}

/// Brings a head into its form: the target in origin form (CONNECT: in authority form), exactly one `host`, one `cookie`.
pub(super) fn normalise(parts: &mut Parts) -> Result<Said, HeadError> {
    let host = host(parts)?;
    let connects = parts.method == Method::CONNECT;
    parts.uri = if connects { authority_form(&parts.uri)? } else { origin_form(parts)? };
    strip_hop_by_hop(&mut parts.headers, false);
    parts.headers.insert(HOST, host);
    join_cookies(&mut parts.headers)?;
    if parts.headers.len() > Limits::MOST_HEADERS {
        return Err(HeadError::malformed(431, "too many headers"));
    }
    let length = length(&mut parts.headers);
    if connects && length.is_some() {
        return Err(bad("CONNECT with a body"));
    }
    let expects_continue =
        parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok(Said { length, expects_continue, connects })
}

/// The host that `:authority` and `host` name; where both are there, they are the same.
fn host(parts: &Parts) -> Result<HeaderValue, HeadError> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let (field, another) = (fields.next(), fields.next());
    if another.is_some() {
        return Err(bad("several Host"));
    }
    let host = match (parts.uri.authority(), field) {
        (None, None) => return Err(bad("no Host")),
        (None, Some(field)) => field.clone(),
        (Some(authority), Some(field))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(field.as_bytes()) =>
        {
            return Err(bad("differing :authority and Host"));
        }
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| bad("invalid :authority"))?
        }
    };
    if is_host(host.as_bytes()) { Ok(host) } else { Err(bad("invalid Host")) }
}

fn authority_form(uri: &Uri) -> Result<Uri, HeadError> {
    let authority = uri.authority().filter(|authority| authority.port_u16().is_some());
    authority.cloned().map(Uri::from).ok_or(bad("CONNECT without a host and port"))
}

fn origin_form(parts: &Parts) -> Result<Uri, HeadError> {
    const INVALID: HeadError = bad("invalid request target");
    if parts.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(bad("unknown :scheme"));
    }
    let target: &PathAndQuery = parts.uri.path_and_query().ok_or(INVALID)?;
    match target.as_str().as_bytes() {
        [b'/', ..] => Ok(Uri::from(target.clone())),
        b"*" if parts.method == Method::OPTIONS => Ok(Uri::from(target.clone())),
        _ => Err(INVALID),
    }
}

/// HTTP/2 clients split cookies for compression (RFC 9113, section 8.2.3); nobody else may meet the crumbs.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), HeadError> {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined =
        HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| bad("invalid header value"))?;
    headers.insert(COOKIE, joined);
    Ok(())
}

/// `content-length`, of which several that say the same become one.
fn length(headers: &mut HeaderMap) -> Option<u64> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    Some(length)
}

const fn bad(what: &'static str) -> HeadError {
    HeadError::malformed(400, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn heads_get_one_form() {
        let mut plain = parts(
            "GET",
            "http://shop:8080/a?b=c",
            &[("cookie", "a=1"), ("te", "trailers"), ("cookie", "b=2")],
        );
        let said = normalise(&mut plain).unwrap();
        assert_eq!(said, Said { length: None, expects_continue: false, connects: false });
        assert_eq!((plain.uri.to_string(), plain.uri.authority()), ("/a?b=c".to_owned(), None));
        assert_eq!(plain.headers["host"], "shop:8080");
        assert_eq!(plain.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
        assert_eq!(plain.headers["te"], "trailers");

        let lengths =
            [("content-length", "5"), ("content-length", "5"), ("expect", "100-Continue"), ("host", "SHOP")];
        let mut posted = parts("POST", "https://shop/", &lengths);
        let said = normalise(&mut posted).unwrap();
        assert_eq!(said, Said { length: Some(5), expects_continue: true, connects: false });
        assert_eq!(posted.headers.get_all("content-length").iter().count(), 1);
        assert_eq!(posted.headers["host"], "shop");

        let mut translated = parts("OPTIONS", "*", &[("host", "shop")]);
        normalise(&mut translated).unwrap();
        assert_eq!(translated.uri.path(), "*");

        let mut connect = parts("CONNECT", "shop:443", &[]);
        assert!(normalise(&mut connect).unwrap().connects);
        assert_eq!(
            (connect.uri.to_string(), &connect.headers["host"]),
            ("shop:443".to_owned(), &"shop:443".parse().unwrap())
        );
    }

    #[test]
    fn what_is_not_unambiguous_is_refused() {
        type Case<'case> = (&'case str, &'case str, &'case [(&'static str, &'case str)], &'case str);
        let table: [Case<'_>; 10] = [
            ("GET", "http://shop/", &[("host", "other")], "differing :authority and Host"),
            ("GET", "http://shop/", &[("host", "shop:80")], "differing :authority and Host"),
            ("GET", "/", &[("host", "shop"), ("host", "shop")], "several Host"),
            ("GET", "/", &[], "no Host"),
            ("GET", "/", &[("host", "a,b")], "invalid Host"),
            ("GET", "http://user@shop/", &[], "invalid Host"),
            ("GET", "ftp://shop/", &[], "unknown :scheme"),
            ("GET", "*", &[("host", "shop")], "invalid request target"),
            ("CONNECT", "shop", &[], "CONNECT without a host and port"),
            ("CONNECT", "shop:443", &[("content-length", "1")], "CONNECT with a body"),
        ];
        for (method, uri, headers, what) in table {
            let error = normalise(&mut parts(method, uri, headers)).unwrap_err();
            assert_eq!((error.status, error.what), (400, what), "{method} {uri} {headers:?}");
        }
        let mut query = parts("GET", "http://shop/", &[]);
        query.uri = Uri::builder().scheme("http").authority("shop").path_and_query("?a").build().unwrap();
        assert_eq!(normalise(&mut query).unwrap_err().what, "invalid request target");
        let mut many = parts("GET", "http://shop/", &[]);
        for number in 0..200 {
            many.headers.append("x-many", HeaderValue::from(number));
        }
        assert_eq!(normalise(&mut many).unwrap_err().status, 431);
    }
}
