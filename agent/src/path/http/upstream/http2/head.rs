//! Heads as HTTP/2 says them (RFC 9113, sections 8.2 and 8.3): a request from the form that requests have between both sides, an
//! answer into the form that answers have. Pure.

use http::{
    HeaderMap, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, EXPECT, HOST},
    request,
    uri::{Authority, Scheme},
};

use crate::http1::{Limits, allowed_trailers, hop::strip_hop_by_hop};

/// Writes a request's head. `length` is that of its body, where known and not zero.
///
/// # Errors
/// What HTTP/2 cannot say.
pub(super) fn request(head: request::Parts, length: Option<u64>) -> Result<Request<()>, &'static str> {
    let request::Parts { method, uri, mut headers, .. } = head;
    strip_hop_by_hop(&mut headers, false);
    let host = headers.remove(HOST);
    let authority = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(length) = length
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut written = Request::new(());
    *written.version_mut() = Version::HTTP_2;
    *written.uri_mut() = if method == Method::CONNECT {
        uri.authority().cloned().or(authority).map(Uri::from).ok_or("CONNECT without an authority")?
    } else if let Some(authority) = authority {
        let mut parts = uri.into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority));
        Uri::from_parts(parts).map_err(|_| "an invalid target")?
    } else {
        // HTTP/1.0 needs no host, and a host may be no authority: then it stays a field, as it came (RFC 9113, section 8.3.1).
        *written.version_mut() = Version::HTTP_11;
        host.into_iter().for_each(|host| drop(headers.insert(HOST, host)));
        uri
    };
    *written.method_mut() = method;
    *written.headers_mut() = headers;
    Ok(written)
}

/// Whether the body waits for a word of the endpoint.
pub(super) fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Checks an answer's head beyond what `h2` does (which resets connection-specific fields, heads beyond the limit, and lengths
/// that are no number or do not fit), and says the length of its body where it is known.
///
/// # Errors
/// What is malformed.
pub(super) fn answer(
    status: StatusCode,
    asked: &Method,
    headers: &mut HeaderMap,
) -> Result<Option<u64>, &'static str> {
    if headers.len() > Limits::MOST_HEADERS {
        return Err("too many headers");
    }
    if status.is_informational() {
        return Err("an interim status as the last");
    }
    let connected = *asked == Method::CONNECT && status.is_success();
    if connected || status == StatusCode::NO_CONTENT {
        // These must not even carry a length (RFC 9110, sections 8.6 and 9.3.6).
        headers.remove(CONTENT_LENGTH);
        return Ok(None);
    }
    let Some(value) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let length: u64 = value.to_str().ok().and_then(|text| text.parse().ok()).ok_or("an invalid length")?;
    if headers.get_all(CONTENT_LENGTH).iter().any(|other| other.as_bytes() != value.as_bytes()) {
        return Err("conflicting lengths");
    }
    headers.insert(CONTENT_LENGTH, length.into());
    Ok(Some(length))
}

/// Trailers that a client may be given: others could deceive whoever merges them into the head.
///
/// # Errors
/// They are longer than allowed.
pub(super) fn trailers(trailers: HeaderMap) -> Result<HeaderMap, &'static str> {
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > Limits::default().trailer_bytes {
        return Err("trailers too long");
    }
    Ok(allowed_trailers(trailers))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(field).collect()
    }

    fn written(method: &str, uri: &str, pairs: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri).body(()).unwrap();
        *request.headers_mut() = fields(pairs);
        super::request(request.into_parts().0, None).unwrap()
    }

    #[test]
    fn requests_name_their_authority_and_leave_the_hop_behind() {
        let plain = written(
            "GET",
            "/a?b",
            &[
                ("host", "shop:80"),
                ("te", "trailers, x"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-end", "2"),
            ],
        );
        assert_eq!(plain.uri(), "http://shop:80/a?b");
        assert_eq!(*plain.headers(), fields(&[("x-end", "2"), ("te", "trailers")]));
        assert_eq!(written("OPTIONS", "*", &[("host", "shop")]).uri().path(), "*");
        let connect = written("CONNECT", "db:5432", &[("host", "db:5432")]);
        assert_eq!((connect.uri().scheme(), connect.uri().authority().unwrap().as_str()), (None, "db:5432"));
        let upgrade = written("GET", "/", &[("host", "shop"), ("upgrade", "websocket")]);
        assert!(upgrade.headers().is_empty());
        let old = written("GET", "/a", &[]);
        assert_eq!((old.uri().to_string().as_str(), old.version()), ("/a", Version::HTTP_11));
    }

    #[test]
    fn a_known_length_is_said() {
        let (head, ()) = Request::post("/").header("host", "shop").body(()).unwrap().into_parts();
        assert_eq!(super::request(head.clone(), Some(7)).unwrap().headers()["content-length"], "7");
        assert!(!super::request(head, None).unwrap().headers().contains_key("content-length"));
    }

    #[test]
    fn answers_are_checked() {
        let ok = StatusCode::OK;
        let read = |status, method: &Method, pairs| {
            let mut headers = fields(pairs);
            answer(status, method, &mut headers).map(|length| (length, headers.len()))
        };
        assert_eq!(read(ok, &Method::GET, &[("content-length", "5")]), Ok((Some(5), 1)));
        assert_eq!(
            read(ok, &Method::GET, &[("content-length", "5"), ("content-length", "5")]),
            Ok((Some(5), 1))
        );
        assert_eq!(
            read(ok, &Method::GET, &[("content-length", "5"), ("content-length", "6")]),
            Err("conflicting lengths")
        );
        assert_eq!(read(ok, &Method::GET, &[]), Ok((None, 0)));
        assert_eq!(read(ok, &Method::HEAD, &[("content-length", "5")]), Ok((Some(5), 1)));
        assert_eq!(read(ok, &Method::CONNECT, &[("content-length", "5")]), Ok((None, 0)));
        assert_eq!(read(StatusCode::NO_CONTENT, &Method::GET, &[("content-length", "0")]), Ok((None, 0)));
        let mut many = HeaderMap::new();
        for number in 0..200 {
            many.append("x-many", HeaderValue::from(number));
        }
        assert_eq!(answer(ok, &Method::GET, &mut many), Err("too many headers"));
    }

    #[test]
    fn trailers_cannot_deceive_nor_flood() {
        let passed =
            trailers(fields(&[("grpc-status", "0"), ("content-length", "5"), ("host", "x")])).unwrap();
        assert_eq!(passed, fields(&[("grpc-status", "0")]));
        let mut long = HeaderMap::new();
        long.insert("x-long", HeaderValue::from_str(&"x".repeat(17_000)).unwrap());
        assert_eq!(trailers(long), Err("trailers too long"));
    }
}
